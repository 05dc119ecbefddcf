// Sortable tables: each body of a table is one row with what belongs to it. Unknown values come last, either way.
"use strict";
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.querySelectorAll("thead th[data-type]")];
  const collator = new Intl.Collator("en", { numeric: true });
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const numbers = head.dataset.type === "number";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies].map((body) => {
        const text = body.rows[0].cells[column].dataset.v;
        return { body, value: text === undefined ? null : numbers ? Number(text) : text };
      });
      const compare = numbers ? (a, b) => a - b : collator.compare;
      rows.sort((a, b) => {
        if (a.value === null || b.value === null) return (a.value === null) - (b.value === null);
        return down ? compare(b.value, a.value) : compare(a.value, b.value);
      });
      table.append(...rows.map((row) => row.body));
    });
  });
}
