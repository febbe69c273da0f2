// Without scripts the page still shows every chart as a picture, and the strongest features as a table.

const toCard = (feature) => {
  location.hash = `f${feature}`;
};
const specs = JSON.parse(document.getElementById("charts").textContent);
const mark = Object.keys(specs).length ? interactiveCharts(specs, toCard) : () => {};
document.querySelectorAll("table.sortable").forEach(sortable);
const browser = document.getElementById("browser");
if (browser) {
  unpacked(document.getElementById("feature-data")).then(
    (data) => featureBrowser(browser, data, mark),
    (error) => {
      const why = `The features cannot be unpacked here (${error.message}): open the report in a browser of 2023 or later.`;
      browser.replaceWith(make("p", { class: "none" }, `${why} Their numbers are also in the folder tables beside it.`));
    },
  );
}

// The features of a large report are packed: gzip in base64.
async function unpacked(place) {
  if (place.type === "application/json") return JSON.parse(place.textContent);
  const bytes = Uint8Array.from(atob(place.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
