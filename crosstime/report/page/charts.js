// Charts become interactive and fit the screen when they come near it; until then, and where drawing fails, they
// are pictures. The style sheet keeps the height of the chart from the start, so that drawing moves nothing. A feature clicked in one chart is marked in all, and its card is shown.

function interactiveCharts(specs, choose) {
  const places = [...document.querySelectorAll("[data-chart]")];
  const views = new Map();
  let picked = null;
  let descriptions = new Map();

  function fitted(spec, room) {
    const copy = structuredClone(spec);
    const { margin, fixed, layouts } = copy.usermeta;
    const layout = layouts.findLast((entry) => entry.room <= room);
    const faceted = "facet" in copy;
    if (faceted) copy.columns = layout.columns;
    if (!fixed) (faceted ? copy.spec : copy).width = Math.max(180, Math.floor(room / layout.columns) - margin);
    copy.config.legend.columns = layout.legend_columns;
    if (descriptions.size) describeFeatures(copy, descriptions);
    return copy;
  }

  async function drawChart(place) {
    const room = Math.floor(place.clientWidth);
    if (!room || Number(place.dataset.room) === room) return;
    place.dataset.room = String(room);
    const name = place.dataset.chart;
    const next = document.createElement("div");
    const options = {
      renderer: "svg",
      ast: true, // evaluate expressions without eval, which the page's policy forbids
      actions: { export: true, source: false, compiled: false, editor: false },
      downloadFileName: name,
      tooltip: { theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" },
    };
    try {
      const { view } = await vegaEmbed(next, fitted(specs[name], room), options);
      view.addEventListener("click", (event, item) => {
        const feature = item?.datum?.feature;
        if (Number.isInteger(feature) && feature >= 0) choose(feature);
      });
      views.get(name)?.finalize();
      views.set(name, view);
      mark(view);
      place.replaceChildren(next); // only now, so that the picture stays where drawing fails
      place.dataset.drawn = "true";
    } catch (error) {
      place.style.minHeight = "0"; // there is no chart to keep the height for
      console.error(`the chart ${name} stays a picture:`, error);
    }
  }

  function mark(view) {
    const { signals } = view.getState({ data: () => false, signals: (name) => name === "picked" });
    if (signals && "picked" in signals) view.signal("picked", picked).runAsync();
  }

  const near = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => drawChart(entry.target)),
    { rootMargin: "400px" },
  );
  places.forEach((place) => near.observe(place));
  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => places.filter((place) => place.dataset.drawn).forEach(drawChart), 150);
  });
  const choice = (feature) => {
    picked = feature;
    views.forEach(mark);
  };
  // What the reader wrote about features is in the tooltips of the charts, which are drawn again for it
  let later = 0;
  choice.describe = (notes) => {
    const same = notes.size === descriptions.size && [...notes].every(([feature, text]) => descriptions.get(feature) === text);
    if (same) return;
    descriptions = notes;
    clearTimeout(later);
    later = setTimeout(() => {
      for (const place of places.filter((place) => place.dataset.drawn)) {
        delete place.dataset.room;
        drawChart(place);
      }
    }, 300);
  };
  return choice;
}

// Adds a description to the rows and tooltips of features in a specification.
function describeFeatures(spec, descriptions) {
  const ofFeatures = Object.values(spec.datasets || {}).flat().filter((row) => Number.isInteger(row.feature));
  for (const row of ofFeatures) row.description = descriptions.get(row.feature) || "";
  const visit = (part) => {
    if (!part || typeof part !== "object") return;
    for (const [name, value] of Object.entries(part)) {
      if (name === "tooltip" && Array.isArray(value)) {
        if (value.some((field) => field.field === "name")) value.push({ field: "description", type: "nominal", title: "description" });
      } else if (name !== "datasets") visit(value);
    }
  };
  if (ofFeatures.length) visit(spec);
}
