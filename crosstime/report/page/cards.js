// The card of one feature: its numbers, what its decoder direction promotes, and the texts it fires on.

const LEVELS = 8;
const SHOWN = 6;

// `shade` is "activation", or a revision: then tokens are shaded by the effect at each token there.
function card(feature, data, shade) {
  const name = `f${feature.id}`;
  const heading = make(
    "h3",
    { tabindex: "-1" },
    name,
    " ",
    make("a", { href: `#${name}`, class: "self", "aria-label": `link to ${name}` }, "¶"),
  );
  return make(
    "article",
    { class: "card", id: name, "aria-label": `feature ${feature.id}` },
    heading,
    factList(feature, data),
    classList(feature),
    make("div", { class: "plots" }, plots(feature, data)),
    numbersTable(feature, data),
    feature.logits ? logitTable(feature, data) : null,
    contextParts(feature, data, shade),
  );
}

function factList(feature, data) {
  if (!feature.facts) return null;
  const items = data.facts.map((name, place) => {
    const value = feature.facts[place];
    const text = typeof value === "number" ? String(value).replace("-", "−") : value || "–";
    return make("div", {}, make("dt", {}, breakable(name)), make("dd", {}, text));
  });
  return make("dl", { class: "setup small" }, items);
}

function classList(feature) {
  const entries = Object.entries(feature.tasks).filter(([, values]) => values.by_ie || values.by_dec);
  if (!entries.length) return null;
  return make(
    "ul",
    { class: "tags" },
    entries.map(([task, values]) =>
      make(
        "li",
        {},
        make("span", { class: "task" }, breakable(task)),
        " by RelIE ",
        make("strong", {}, values.by_ie || "–"),
        ", by RelDec ",
        make("strong", {}, values.by_dec || "–"),
      ),
    ),
  );
}

function plots(feature, data) {
  const tasks = Object.entries(feature.tasks).filter(([, values]) => values.ie.some(([ie]) => ie !== null));
  const known = (lists) => lists.flat(2).filter((value) => value !== null);
  const effects = known(tasks.map(([, values]) => values.ie));
  const drawn = tasks.map(([task, values]) => plot(`IE on ${task}`, values.ie, effects, data.revisions));
  if (feature.norms.some((norm) => norm !== null)) {
    const norms = feature.norms.map((norm) => [norm, null, null]);
    drawn.push(plot("decoder norm", norms, known(norms), data.revisions));
  }
  return drawn;
}

// A small line chart over checkpoints, from the lowest of `all` to the highest, zero included: plots of one unit share
// a scale.
function plot(title, values, all, revisions) {
  const [width, height, left, top] = [228, 100, 34, 10];
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  const x = (place) => left + ((place + 0.5) * (width - left)) / values.length;
  const y = (value) => top + ((high - value) * (height - 2 * top)) / (high - low || 1);
  const decimals = decimalsFor(all);
  const marks = [draw("line", { class: "zero", x1: left, x2: width, y1: y(0), y2: y(0) })];
  let path = "";
  values.forEach(([value, from, to], place) => {
    if (value === null) return;
    path += `${path && values[place - 1][0] !== null ? "L" : "M"}${x(place)} ${y(value)}`;
    if (from !== null && to !== null) {
      marks.push(draw("line", { class: "whisker", x1: x(place), x2: x(place), y1: y(from), y2: y(to) }));
    }
    const label = `${revisions[place]}: ${withInterval(values[place], decimals)}`;
    marks.push(draw("circle", { cx: x(place), cy: y(value), r: 3.2 }, draw("title", {}, label)));
  });
  marks.splice(1, 0, draw("path", { d: path }));
  const ticks = [...new Set([low, 0, high])].filter((tick) => tick === 0 || Math.abs(y(tick) - y(0)) > 12);
  const digits = decimalsFor(all.map((value) => value / 10));
  marks.push(...ticks.map((tick) => draw("text", { x: left - 4, y: y(tick) + 3.5 }, tick ? number(tick, Math.max(0, digits - 2)) : "0")));
  const label = values.map((value, place) => `${revisions[place]} ${number(value[0], decimals)}`).join(", ");
  const picture = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${label}` }, marks);
  const ends = [revisions[0], values.length > 1 ? revisions[values.length - 1] : ""];
  return make(
    "figure",
    { class: "plot" },
    make("figcaption", {}, breakable(title)),
    picture,
    make("div", { class: "ends" }, ends.map((name) => make("span", {}, name))),
  );
}

// A name that may wrap after "_" and "+".
function breakable(text) {
  return text.split(/(?<=[_+/])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));
}

function numbersTable(feature, data) {
  const tasks = Object.entries(feature.tasks);
  if (!tasks.length) return null;
  const every = tasks.flatMap(([, values]) => values.ie.map(([ie]) => ie));
  const [effect, norm] = [decimalsFor(every), decimalsFor(feature.norms)];
  const heads = [data.noun, "IE", "RelIE", "RelDec", "decoder norm", "Δ accuracy"];
  const rows = tasks.flatMap(([task, values]) => [
    [make("th", { scope: "rowgroup", colspan: heads.length, class: "task" }, task)],
    ...data.revisions.map((revision, place) =>
      [
        revision,
        withInterval(values.ie[place], effect),
        withInterval(values.relie[place], 2, "undefined"),
        number(feature.reldec[place], 2, "undefined"),
        number(feature.norms[place], norm),
        values.change[place] > 0 ? `+${number(values.change[place])}` : number(values.change[place]),
      ].map(cell),
    ),
  ]);
  const caption = `f${feature.id} at each ${data.noun}; Δ accuracy is the change when it alone is ablated`;
  return wide(caption, heads, rows);
}

function cell(text, place) {
  return make(place ? "td" : "th", { scope: place ? null : "row", class: place ? "number" : null }, text);
}

function wide(caption, heads, rows) {
  const head = heads.map((text, place) => make("th", { scope: "col", class: place ? "number" : null }, text));
  const table = make(
    "table",
    {},
    make("caption", {}, make("span", {}, caption)),
    make("thead", {}, make("tr", {}, head)),
    make("tbody", {}, rows.map((row) => make("tr", {}, row))),
  );
  return make("div", { class: "wide tall", tabindex: "0", role: "region", "aria-label": caption }, table);
}

function logitTable(feature, data) {
  const rows = data.revisions.map((revision, place) => [
    make("th", { scope: "row" }, revision),
    ...feature.logits[place].map((entries) => make("td", {}, tokenChips(entries, data))),
  ]);
  const caption = `Tokens whose logit the decoder direction raises and lowers most, at each ${data.noun}`;
  const made = wide(caption, [data.noun, "promoted", "suppressed"], rows);
  made.classList.add("logits");
  made.querySelectorAll("th.number").forEach((head) => head.classList.remove("number"));
  return made;
}

function tokenChips(entries, data) {
  const chips = [];
  for (let place = 0; place < entries.length; place += 2) {
    const title = number(entries[place + 1], 3);
    chips.push(make("bdi", { class: "chip", title }, visible(data.strings[entries[place]])), " ");
  }
  return chips;
}

// A token comes as text and signs in turn.
function visible(parts) {
  return parts.map((part, place) => (place % 2 ? make("span", { class: "sign" }, part) : part));
}

function contextParts(feature, data, shade) {
  const contexts = feature.contexts || [];
  if (!contexts.length) return make("p", { class: "none" }, "No texts were kept for this feature.");
  const shadeOf = (context) => (shade === "activation" ? context.activations : context.effects?.[shade] || []);
  const scale = Math.max(0, ...contexts.flatMap((context) => shadeOf(context).map((value) => Math.abs(value ?? 0))));
  const kinds = [
    ["task", "Prompts it fires on"],
    ["corpus", "Corpus text it fires on"],
    ["rows", "Rows it fires on most strongly"],
  ];
  return kinds.flatMap(([source, title]) => {
    const items = contexts
      .filter((context) => context.source === source)
      .map((context) => contextItem(context, data, shade, shadeOf(context), scale));
    if (!items.length) return [];
    const rest = items.slice(SHOWN);
    return [
      make("h4", {}, title),
      make("ol", { class: "contexts" }, items.slice(0, SHOWN)),
      rest.length
        ? make("details", {}, make("summary", {}, `${rest.length} more`), make("ol", { class: "contexts" }, rest))
        : null,
    ];
  });
}

function contextItem(context, data, shade, values, scale) {
  const decimals = decimalsFor(values);
  const areRows = context.source === "rows";
  const [up, down] = shade === "activation" ? ["a", null] : ["p", "n"];
  const tokens = context.tokens.map((token, place) => {
    const value = values[place] ?? 0;
    const kind = value > 0 ? up : down;
    const level = kind && scale > 0 ? Math.min(LEVELS, Math.ceil((LEVELS * Math.abs(value)) / scale)) : 0;
    const shape = areRows ? "chip t" : "t";
    const attributes = { class: level ? `${shape} ${kind}${level}` : shape, title: level ? number(value, decimals) : null };
    const made = make(areRows ? "bdi" : "span", attributes, visible(data.strings[token]));
    return areRows ? [made, " "] : [made];
  });
  const peak = Math.max(0, ...context.activations.filter((value) => value !== null));
  const facts = [make("span", { class: "task" }, visible(data.strings[context.task]))];
  if (context.label) facts.push(make("span", {}, context.label));
  facts.push(make("span", {}, `peak ${number(peak, decimalsFor([peak]))}`));
  for (const name of ["right", "wrong"]) {
    if (context[name] === undefined) continue;
    const answer = make("bdi", { class: `answer ${name}` }, visible(data.strings[context[name]]));
    facts.push(make("span", {}, `${name} `, answer));
  }
  // No padding between tokens: letters of a cursive script still join, and a strip runs from right to left as a whole.
  return make("li", {}, make("p", { class: "strip", dir: "auto" }, tokens.flat()), make("p", { class: "facts" }, facts));
}
