"use strict";
// Draws the charts of a model page from the specifications in the page, with the page's colours.
(function () {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const views = new Map();

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const axis = {
      labelColor: of("--quiet"), titleColor: of("--quiet"), domainColor: of("--line"), tickColor: of("--line"),
      gridColor: of("--line"), titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11.5,
    };
    return {
      background: null,
      font: of("--sans"),
      view: { stroke: null },
      axis,
      axisBand: { domain: false, ticks: false, labelPadding: 5 },
      legend: { labelColor: of("--quiet"), titleColor: of("--quiet"), titleFontWeight: "normal", labelFontSize: 11, titleFontSize: 11.5 },
      range: { category: [1, 2, 3, 4, 5, 6].map((i) => of(`--series-${i}`)) },
    };
  }

  async function draw(element) {
    const id = element.dataset.chart;
    try {
      if (views.has(id)) views.get(id).finalize();
      views.delete(id);
      const actions = { export: true, source: false, compiled: false, editor: false };
      // vega-embed keeps the object that it gets, so every drawing gets a copy
      const result = await vegaEmbed(element, structuredClone(specs[id]), { mode: "vega-lite", actions, config: colours() });
      views.set(id, result);
      element.dataset.drawn = "yes";
    } catch (error) {
      element.textContent = `The chart could not be drawn: ${error.message}`;
      element.classList.add("error");
      console.error(error);
    }
  }

  const isVisible = (element) => element.offsetParent !== null;

  function drawVisible() {
    const waiting = Array.from(document.querySelectorAll(".chart")).filter((p) => !p.dataset.drawn && isVisible(p));
    return Promise.all(waiting.map(draw));
  }

  function setUpSwitch(maps) {
    const choices = maps.querySelector(".switch");
    const panels = Array.from(maps.querySelectorAll(".panel"));
    const choose = () => {
      const chosen = choices.querySelector("input:checked").value;
      for (const panel of panels) panel.hidden = panel.dataset.panel !== chosen;
      drawVisible();
    };
    choices.hidden = panels.length < 2;
    choices.addEventListener("change", choose);
    choose();
  }

  document.addEventListener("vcorr-theme", () => {
    for (const element of document.querySelectorAll(".chart")) delete element.dataset.drawn;
    drawVisible();
  });
  document.querySelectorAll(".maps").forEach(setUpSwitch);
})();
