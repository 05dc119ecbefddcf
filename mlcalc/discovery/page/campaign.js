// What happens on the page of a campaign: crystals open, files are saved, points of the hull say what they are.
"use strict";
{
  const data = JSON.parse(document.getElementById("data").textContent);

  function save(name, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function button(words, parent, action) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    made.addEventListener("click", action);
    parent.append(made);
    return made;
  }

  function fill(panel, rank) {
    const { cells, files, extxyz } = data.crystals[rank];
    for (const [name, text] of Object.entries(files)) {
      button(name.includes("symmetric") ? "CIF, symmetrised" : "CIF, as relaxed", panel.querySelector(".downloads"), () => save(name, text));
    }
    button("Extended XYZ", panel.querySelector(".downloads"), () => save(`crystal-${rank}.extxyz`, extxyz));
    const legend = panel.querySelector(".legend");
    for (const symbol of new Set(cells.relaxed.symbols)) {
      const [entry, spot] = [document.createElement("span"), document.createElement("i")];
      spot.style.background = `rgb(${data.elements[symbol].colour.join()})`;
      entry.append(spot, symbol);
      legend.append(entry);
    }
    const viewer = createViewer(panel.querySelector("canvas"), data.elements);
    const tools = panel.querySelector(".tools");
    const choice = { cell: cells.conventional ? "conventional" : "relaxed", repeat: 1 };
    const options = [];
    function show() {
      for (const [made, key, value] of options) made.setAttribute("aria-pressed", choice[key] === value);
      viewer.show(cells[choice.cell], choice.repeat);
    }
    function option(words, key, value) {
      options.push([button(words, tools, () => { choice[key] = value; show(); }), key, value]);
    }
    if (cells.conventional) option("Conventional cell", "cell", "conventional");
    if (cells.conventional) option("Cell as relaxed", "cell", "relaxed");
    for (const repeat of [1, 2, 3]) option(`${repeat} × ${repeat} × ${repeat}`, "repeat", repeat);
    button("Zoom in", tools, () => viewer.magnify(1.25));
    button("Zoom out", tools, () => viewer.magnify(0.8));
    button("Reset", tools, viewer.reset);
    show();
  }

  const point = (rank) => document.querySelector(`#hull .point[data-rank="${rank}"]`);

  function toggle(body, opened) {
    const more = body.querySelector("tr.more");
    if (!more) return;
    const rank = more.id.slice("more-".length);
    more.hidden = !opened;
    body.classList.toggle("active", opened);
    body.querySelector("button.open").setAttribute("aria-expanded", opened);
    point(rank)?.classList.toggle("active", opened);
    if (opened && !more.dataset.filled) {
      more.dataset.filled = "yes";
      fill(more, rank);
    }
  }

  const bodies = () => [...document.querySelectorAll("#crystals > tbody")];
  for (const body of bodies()) {
    const row = body.querySelector("tr.opens");
    row?.addEventListener("click", () => toggle(body, body.querySelector("tr.more").hidden));
    row?.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      bodies()[bodies().indexOf(body) + step]?.querySelector("button.open")?.focus();
    });
  }

  function reveal(rank) {
    const body = document.getElementById(`crystal-${rank}`);
    if (!body) return;
    toggle(body, true);
    body.querySelector("button.open")?.focus({ preventScroll: true });
    body.scrollIntoView({ block: "start" });
  }

  for (const made of document.querySelectorAll("button[data-all]")) {
    made.addEventListener("click", () => {
      const crystals = Object.values(data.crystals);
      const relaxed = (files) => Object.entries(files).find(([name]) => !name.includes("symmetric"))[1];
      const cif = made.dataset.all === "cif";
      save(`${data.name}.${made.dataset.all}`, crystals.map((c) => (cif ? relaxed(c.files) : c.extxyz)).join(cif ? "\n" : ""));
    });
  }

  const tip = document.getElementById("tip");
  for (const mark of document.querySelectorAll("#hull .point")) {
    // The words of the browser's own tip, shown at once and for touch too.
    const title = mark.querySelector("title");
    const words = title.textContent;
    title.remove();
    mark.dataset.told = words;
    mark.addEventListener("pointerenter", (event) => {
      tip.textContent = words;
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, Math.max(0, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${Math.max(4, event.clientY - tip.offsetHeight - 10)}px`;
    });
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    if (mark.dataset.rank) mark.addEventListener("click", () => reveal(mark.dataset.rank));
  }

  const asked = /^#crystal-(\d+)$/.exec(location.hash);
  if (asked) reveal(asked[1]);
}
