// Points of a latent map: drawn once, named when pointed at, by mouse, finger or arrow keys.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.querySelector("#map canvas");
const tip = document.getElementById("tip");
const pen = canvas.getContext("2d");
const all = [...data.points.map((p) => ({ p, ring: false })), ...data.designed.map((p) => ({ p, ring: true }))];
// Viridis at nine places, from dark to bright.
const stops = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];
function colour(value) {
  const at = Math.min(Math.max((value - data.low) / (data.high - data.low || 1), 0), 1) * (stops.length - 1);
  const k = Math.min(Math.floor(at), stops.length - 2);
  return `rgb(${stops[k].map((c, i) => Math.round(c + (at - k) * (stops[k + 1][i] - c))).join(",")})`;
}
const range = [0, 1].map((axis) => {
  const values = all.map((one) => one.p[axis]);
  return [Math.min(...values), Math.max(...values)];
});
const margin = 24;
for (const one of all) {
  const [x, y] = [0, 1].map((axis) => (one.p[axis] - range[axis][0]) / (range[axis][1] - range[axis][0] || 1));
  one.x = margin + x * (canvas.width - 2 * margin);
  one.y = canvas.height - margin - y * (canvas.height - 2 * margin);
}
function draw(chosen) {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (const one of all) {
    pen.beginPath();
    pen.arc(one.x, one.y, one.ring ? 9 : 4.5, 0, 2 * Math.PI);
    pen.fillStyle = colour(one.p[2]);
    pen.fill();
    if (one.ring || one === chosen) {
      pen.lineWidth = 3;
      pen.strokeStyle = one === chosen ? "#1b2430" : "#c62828";
      pen.stroke();
    }
  }
}
function show(one) {
  draw(one);
  tip.hidden = !one;
  if (!one) return;
  const scale = canvas.clientWidth / canvas.width;
  tip.textContent = `${one.p[3]}: ${data.label} ${one.p[2]}${one.ring ? " (designed, predicted)" : ""}`;
  tip.style.left = `${Math.min(one.x * scale + 12, canvas.clientWidth - tip.offsetWidth)}px`;
  tip.style.top = `${one.y * scale + 12}px`;
}
let current = -1;
canvas.addEventListener("pointermove", (event) => {
  const scale = canvas.width / canvas.clientWidth;
  const [x, y] = [event.offsetX * scale, event.offsetY * scale];
  let best = null;
  let least = 30 * 30;
  all.forEach((one, k) => {
    const far = (one.x - x) ** 2 + (one.y - y) ** 2;
    if (far <= least) [best, least, current] = [one, far, k];
  });
  show(best);
});
canvas.addEventListener("pointerleave", () => show(null));
canvas.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  current = (current + step + all.length) % all.length;
  show(all[current]);
});
draw(null);
const bar = document.getElementById("scale").getContext("2d");
for (let k = 0; k < 256; k++) {
  bar.fillStyle = colour(data.low + (k / 255) * (data.high - data.low));
  bar.fillRect(k, 0, 1, 1);
}
