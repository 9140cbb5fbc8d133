"use strict";
// Draws the tracks of a clip: reference and prediction of one row in one frame, both chosen above the drawing.
(function () {
  const data = JSON.parse(document.getElementById("tracks").textContent);
  const canvas = document.querySelector("canvas.tracks");
  const row = document.querySelector('[data-clip="row"]');
  const frame = document.querySelector('[data-clip="frame"]');
  const status = document.querySelector(".clip .count");
  const RADIUS = 6;

  function colour(point) {
    return `hsl(${(point * 137.5) % 360} 65% 50%)`;
  }

  // null where a reference has no position
  function place(tracks, point, time, width, height) {
    const at = 2 * (point * data.frames + time);
    return tracks.xy[at] === null ? null : [(tracks.xy[at] / data.unit) * width, (tracks.xy[at + 1] / data.unit) * height];
  }

  function isVisible(tracks, point, time) {
    return tracks.visible[point * data.frames + time] === 1;
  }

  function drawPoint(pen, point, time, width, height) {
    const predicted = data.rows[Number(row.value)];
    const reference = place(data.reference, point, time, width, height);
    const [u, v] = place(predicted, point, time, width, height);
    pen.strokeStyle = pen.fillStyle = colour(point);
    if (reference) {
      pen.globalAlpha = 0.6;
      pen.beginPath(); pen.moveTo(...reference); pen.lineTo(u, v); pen.stroke();
      pen.globalAlpha = 1;
      drawReference(pen, point, time, ...reference);
    }
    pen.globalAlpha = isVisible(predicted, point, time) ? 1 : 0.3;
    pen.beginPath(); pen.arc(u, v, RADIUS / 2, 0, 2 * Math.PI); pen.fill();
    pen.globalAlpha = 1;
  }

  function drawReference(pen, point, time, x, y) {
    pen.setLineDash(isVisible(data.reference, point, time) ? [] : [2, 3]);
    pen.beginPath();
    if (data.queries[point] === time) pen.rect(x - RADIUS, y - RADIUS, 2 * RADIUS, 2 * RADIUS);
    else pen.arc(x, y, RADIUS, 0, 2 * Math.PI);
    pen.stroke();
    pen.setLineDash([]);
  }

  function draw() {
    const time = Number(frame.value);
    const width = canvas.clientWidth, height = width / data.ratio, scale = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    pen.lineWidth = 1.5;
    for (let point = 0; point < data.queries.length; point++) drawPoint(pen, point, time, width, height);
    status.textContent = `frame ${time} of ${data.frames - 1}`;
    canvas.dataset.drawn = `${row.value}:${time}`;
  }

  document.querySelector(".clip .choices").hidden = false;
  row.addEventListener("change", draw);
  frame.addEventListener("input", draw);
  window.addEventListener("resize", draw);
  draw();
})();
