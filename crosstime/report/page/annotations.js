// What a reader writes about features: kept in this browser, given out and taken back as CSV.

const FIELDS = ["description", "complexity", "interpretable", "note"];
const CHOICES = { complexity: ["1", "2", "3", "4", "5"], interpretable: ["yes", "partly", "no"] };

function annotations(key, known, changed) {
  let store = {};
  let persistent = true;
  try {
    store = JSON.parse(localStorage.getItem(key) || "{}");
  } catch {
    persistent = false; // a browser may refuse to keep anything for a page opened from disk
  }

  function save() {
    try {
      localStorage.setItem(key, JSON.stringify(store));
    } catch {
      persistent = false;
    }
    changed(Object.keys(store).length, persistent);
  }

  function set(feature, field, value) {
    const entry = { ...store[feature], [field]: value };
    if (FIELDS.some((name) => entry[name])) store[feature] = entry;
    else delete store[feature];
    save();
  }

  // A spreadsheet would compute a cell that begins like a formula; an apostrophe in front makes it text.
  const plain = (text) => (/^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text);
  const unplain = (text) => (/^'+[=+\-@\t\r]/.test(text) ? text.slice(1) : text);

  const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function toCsv() {
    const rows = Object.keys(store)
      .sort((left, right) => left - right)
      .map((feature) => [feature, ...FIELDS.map((field) => plain(store[feature][field] || ""))]);
    return [["feature", ...FIELDS], ...rows].map((row) => `${row.map(quoted).join(",")}\r\n`).join("");
  }

  function fromCsv(text) {
    const [head, ...rows] = parseCsv(text);
    if (!head || head[0] !== "feature") throw new Error("the first column of an annotation file is 'feature'");
    const unknown = head.slice(1).find((name) => !FIELDS.includes(name));
    if (unknown !== undefined) throw new Error(`there is no column '${unknown}': the columns are feature, ${FIELDS.join(", ")}`);

    // Nothing is taken over before all rows are known to be sound
    const entries = rows.map((row) => Object.fromEntries(head.map((name, column) => [name, unplain(row[column] || "").trim()])));
    const once = new Set();
    for (const [place, entry] of entries.entries()) {
      const line = `row ${place + 2}`;
      if (!/^\d+$/.test(entry.feature)) throw new Error(`${line}: '${entry.feature}' is not the number of a feature`);
      if (!known.has(Number(entry.feature))) throw new Error(`${line}: this report has no feature ${entry.feature}`);
      if (once.has(Number(entry.feature))) throw new Error(`${line}: feature ${entry.feature} is there twice`);
      once.add(Number(entry.feature));
      entry.complexity = (entry.complexity || "").replace(/\.0$/, "");
      entry.interpretable = (entry.interpretable || "").toLowerCase();
      for (const [field, allowed] of Object.entries(CHOICES)) {
        if (entry[field] && !allowed.includes(entry[field])) {
          throw new Error(`${line}: ${field} is ${allowed.join(", ")} or empty, not '${entry[field]}'`);
        }
      }
    }
    for (const entry of entries) {
      const notes = Object.fromEntries(FIELDS.map((field) => [field, entry[field] || ""]));
      if (FIELDS.some((field) => notes[field])) store[Number(entry.feature)] = notes;
    }
    save();
    return rows.length;
  }

  return { of: (feature) => store[feature] || {}, descriptions: () => new Map(Object.entries(store).filter(([, entry]) => entry.description).map(([feature, entry]) => [Number(feature), entry.description])), count: () => Object.keys(store).length, set, toCsv, fromCsv };
}

// RFC 4180: a quoted field may hold commas, line ends and doubled quotes.
function parseCsv(text) {
  const rows = [[]];
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/y;
  while (field.lastIndex < text.length) {
    const match = field.exec(text);
    if (!match) throw new Error("this is not a CSV file");
    rows[rows.length - 1].push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] !== ",") rows.push([]);
  }
  return rows.filter((row) => row.length && row.some((value) => value));
}

function annotationForm(feature, notes) {
  const entry = notes.of(feature.id);
  const choice = (field, title, values) =>
    make(
      "label",
      {},
      `${title} `,
      make(
        "select",
        { name: field },
        ["", ...values].map((value) => make("option", { value, selected: (entry[field] || "") === value }, value || "–")),
      ),
    );
  const text = (field, title) =>
    make("label", { class: "written" }, `${title} `, make("input", { name: field, type: "text", value: entry[field] || "" }));
  const form = make(
    "form",
    { class: "annotation", "aria-label": `annotate feature ${feature.id}` },
    make("h4", {}, "Your annotation"),
    text("description", "Description"),
    choice("complexity", "Complexity", CHOICES.complexity),
    choice("interpretable", "Interpretable", CHOICES.interpretable),
    text("note", "Note"),
  );
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => notes.set(feature.id, event.target.name, event.target.value));
  return form;
}
