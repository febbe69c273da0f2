// Without scripts the page still shows every chart as a picture, and the strongest features as a table.

const toCard = (feature) => {
  location.hash = `f${feature}`;
};
const specs = JSON.parse(document.getElementById("charts").textContent);
const mark = Object.keys(specs).length ? interactiveCharts(specs, toCard) : () => {};
markSection();
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

// On a narrow screen the navigation is wider than the page: scroll it, and not the page, to a link.
function intoView(link) {
  const list = link.closest("ul");
  const [outer, inner] = [list.getBoundingClientRect(), link.getBoundingClientRect()];
  if (inner.left < outer.left || inner.right > outer.right) {
    list.scrollLeft += (inner.left + inner.right - outer.left - outer.right) / 2;
  }
}

// The navigation marks the section that is being read.
function markSection() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) visible.add(target.id);
        else visible.delete(target.id);
      }
      const current = [...links.keys()].find((id) => visible.has(id));
      for (const [id, link] of links) {
        if (id !== current) link.removeAttribute("aria-current");
        else if (!link.hasAttribute("aria-current")) {
          link.setAttribute("aria-current", "true");
          intoView(link);
        }
      }
    },
    { rootMargin: "-25% 0px -60% 0px" },
  );
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
}
