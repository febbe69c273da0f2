// The feature browser: a list that is searched, sorted and filtered, and beside it the card of the chosen feature.

function featureBrowser(place, data, picked) {
  const byId = new Map(data.features.map((feature) => [feature.id, feature]));
  const form = place.querySelector("form");
  const list = place.querySelector("[role=listbox]");
  const shown = place.querySelector(".shown");
  const output = form.querySelector("output");
  const fields = form.elements;
  const words = new Map();
  let order = [];
  let current = null;

  const notes = annotations(`crosstime:${data.id}`, byId, (count, persistent) => {
    const storage = persistent ? "kept in this browser" : "not kept when this page closes: export them";
    fields.kept.textContent = count ? `${count} annotated, ${storage}` : "";
    picked.describe?.(notes.descriptions());
  });
  picked.describe?.(notes.descriptions());

  const sorts = sortings(data);
  fillSelect(fields.sort, sorts.map(([name], index) => [String(index), name]));

  const inScope = (feature) =>
    Object.entries(feature.tasks)
      .filter(([task]) => !fields.task.value || task === fields.task.value)
      .filter(([task]) => !fields.language.value || data.languages[data.tasks.indexOf(task)] === fields.language.value)
      .map(([, values]) => values);

  function matches(feature) {
    const tasks = inScope(feature);
    const free = !fields.task.value && !fields.language.value;
    if (!tasks.length && !free) return false;
    for (const [field, key] of [["by_ie", "by_ie"], ["by_dec", "by_dec"]]) {
      if (fields[field].value && !tasks.some((values) => values[key] === fields[field].value)) return false;
    }
    for (const field of form.querySelectorAll("[data-fact]")) {
      if (field.value && feature.facts?.[Number(field.dataset.fact)] !== field.value) return false;
    }
    const wanted = fields.text.value.trim().toLowerCase();
    return !wanted || haystack(feature).includes(wanted);
  }

  // Everything of a card that can be read; what the reader wrote may change, so it is not kept.
  function haystack(feature) {
    if (!words.has(feature.id)) {
      const token = (index) => data.strings[index].join("");
      const parts = [`f${feature.id}`, ...(feature.facts || []).filter((value) => typeof value === "string")];
      for (const [task, values] of Object.entries(feature.tasks)) parts.push(task, values.by_ie, values.by_dec);
      for (const side of (feature.logits || []).flat()) {
        for (let index = 0; index < side.length; index += 2) parts.push(token(side[index]));
      }
      for (const context of feature.contexts || []) parts.push(context.tokens.map(token).join(""), context.label || "");
      words.set(feature.id, parts.join("\n").toLowerCase());
    }
    return `${words.get(feature.id)}\n${Object.values(notes.of(feature.id)).join("\n").toLowerCase()}`;
  }

  function refresh() {
    const [, key, format] = sorts[Number(fields.sort.value) || 0];
    const sign = fields.ascending.getAttribute("aria-pressed") === "true" ? 1 : -1;
    const rows = data.features
      .filter(matches)
      .map((feature) => ({ feature, value: key(feature, inScope(feature)) }));
    rows.sort((left, right) => compare(left.value, right.value, sign));
    order = rows.map(({ feature }) => feature.id);
    list.replaceChildren(...rows.map(({ feature, value }) => option(feature, format(value), inScope(feature))));
    output.textContent = `${order.length} of ${data.features.length} features`;
    highlight();
  }

  function option(feature, value, tasks) {
    const strongest = tasks.reduce((best, values) => (size(values) > size(best) ? values : best), tasks[0]);
    return make(
      "li",
      { role: "option", id: `row-${feature.id}`, "data-feature": feature.id, "aria-selected": "false" },
      make("span", { class: "name" }, `f${feature.id}`),
      strongest ? spark(strongest.ie) : make("span"),
      make("span", { class: "value" }, value),
      make("span", { class: "kind" }, strongest?.by_ie || ""),
    );
  }

  function highlight() {
    list.querySelectorAll("[aria-selected=true]").forEach((row) => row.setAttribute("aria-selected", "false"));
    const row = document.getElementById(`row-${current}`);
    if (row) {
      row.setAttribute("aria-selected", "true");
      list.setAttribute("aria-activedescendant", row.id);
      // Only the list scrolls, not the page.
      const [top, bottom] = [row.offsetTop - list.offsetTop, row.offsetTop - list.offsetTop + row.offsetHeight];
      if (top < list.scrollTop) list.scrollTop = top;
      else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
    } else {
      list.removeAttribute("aria-activedescendant");
    }
  }

  // What nobody chose is shown, but not marked in the charts.
  function show(id, chosen = true) {
    current = id;
    const feature = byId.get(id);
    if (feature) {
      const made = card(feature, data, fields.shade.value);
      made.append(annotationForm(feature, notes));
      shown.replaceChildren(made);
    } else {
      shown.replaceChildren(make("p", { class: "none" }, `This report has no feature f${id}.`));
    }
    highlight();
    if (chosen) picked(id);
  }

  function step(by) {
    if (!order.length) return;
    const at = order.indexOf(current);
    const to = at < 0 ? 0 : Math.min(order.length - 1, Math.max(0, at + by));
    // Without a new entry of history: the way back leads to where the reader came from.
    history.replaceState(null, "", `#f${order[to]}`);
    show(order[to]);
  }

  function followLink() {
    const match = /^#f(\d+)$/.exec(location.hash);
    if (!match) return false;
    const id = Number(match[1]);
    if (byId.has(id) && !order.includes(id)) {
      form.reset();
      refresh();
    }
    show(id);
    place.scrollIntoView();
    shown.querySelector("h3")?.focus({ preventScroll: true });
    return true;
  }

  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  list.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    step(steps[event.key]);
  });
  list.addEventListener("click", (event) => {
    const row = event.target.closest("[role=option]");
    if (!row) return;
    history.replaceState(null, "", `#f${row.dataset.feature}`);
    show(Number(row.dataset.feature));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      fields.text.focus();
    } else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });
  form.addEventListener("input", (event) => {
    if (event.target === fields.shade) show(current);
    else if (event.target !== fields.file) refresh();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  fields.ascending.addEventListener("click", () => {
    const pressed = fields.ascending.getAttribute("aria-pressed") !== "true";
    fields.ascending.setAttribute("aria-pressed", String(pressed));
    refresh();
  });
  fields.export.addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([notes.toCsv()], { type: "text/csv" }));
    make("a", { href: address, download: "annotations.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  fields.file.addEventListener("change", async () => {
    try {
      const count = notes.fromCsv(await fields.file.files[0].text());
      output.textContent = `${count} annotations were read`;
      show(current);
    } catch (error) {
      output.textContent = `Not read: ${error.message}.`;
    }
    fields.file.value = "";
  });
  window.addEventListener("hashchange", followLink);

  place.hidden = false;
  refresh();
  if (!followLink() && order.length) show(order[0], false);
}

const size = (values) => Math.max(0, ...values.ie.map(([ie]) => Math.abs(ie ?? 0)));

// Each way to sort: its name, what it sorts by, and how that is written in the list.
function sortings(data) {
  const three = (value) => (value === null || value === undefined ? "–" : number(value, 3));
  const most = (values) => {
    const numbers = values.filter((value) => value !== null && value !== undefined);
    return numbers.length ? numbers.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best)) : null;
  };
  const named = [
    ["largest |IE|", (feature, tasks) => (tasks.length ? Math.max(...tasks.map(size)) : null), three],
    ["|RelIE − RelDec|", (feature, tasks) => disagreement(feature, tasks), three],
    ["|Δ accuracy|, ablated alone", (feature, tasks) => absolute(most(tasks.flatMap((values) => values.change))), three],
    ["number", (feature) => -feature.id, () => ""],
  ];
  data.revisions.forEach((revision, place) => {
    named.push([`IE at ${revision}`, (feature, tasks) => most(tasks.map((values) => values.ie[place][0])), three]);
    named.push([`RelIE at ${revision}`, (feature, tasks) => most(tasks.map((values) => values.relie[place][0])), three]);
    named.push([`RelDec at ${revision}`, (feature) => feature.reldec[place], three]);
  });
  data.facts.forEach((name, place) => {
    if (!data.features.some((feature) => typeof feature.facts?.[place] === "number")) return;
    named.push([name, (feature) => feature.facts?.[place] ?? null, (value) => `${value ?? "–"}`]);
  });
  if (data.tasks.length) return named;
  // Without tasks there are no effects, and what was told last of the features comes first
  return named.filter(([, key]) => data.features.some((feature) => (key(feature, []) ?? null) !== null)).reverse();
}

const absolute = (value) => (value === null ? null : Math.abs(value));

function disagreement(feature, tasks) {
  const gaps = tasks.flatMap((values) =>
    values.relie
      .map(([relie], place) => (relie === null || feature.reldec[place] === null ? null : Math.abs(relie - feature.reldec[place])))
      .filter((gap) => gap !== null),
  );
  return gaps.length ? Math.max(...gaps) : null;
}

function spark(values) {
  const known = values.map(([ie]) => ie ?? 0);
  const [low, high] = [Math.min(0, ...known), Math.max(0, ...known)];
  const x = (place) => 3 + (place * 50) / Math.max(1, known.length - 1);
  const y = (value) => 2 + ((high - value) * 16) / (high - low || 1);
  return draw(
    "svg",
    { viewBox: "0 0 56 20", class: "spark", "aria-hidden": "true" },
    draw("line", { class: "zero", x1: 0, x2: 56, y1: y(0), y2: y(0) }),
    draw("path", { d: known.map((value, place) => `${place ? "L" : "M"}${x(place)} ${y(value)}`).join("") }),
  );
}

function fillSelect(select, entries) {
  select.append(...entries.map(([value, text]) => make("option", { value }, text)));
}
