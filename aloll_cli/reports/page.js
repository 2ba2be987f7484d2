"use strict";
// The list of responses: searched, filtered and sorted in memory; only the rows in view are in the document.
(() => {
  const { sides, scores, prompts, rows } = JSON.parse(document.getElementById("content").textContent);
  const at = (id) => document.getElementById(id);
  const HEIGHT = 64; // px of a row, as in page.css
  const MORE = 6; // rows above and below those in view
  const scored = scores.includes("reward");
  const END = 60; // characters of a prompt in a row
  const START = 160; // of a response

  const reward = (row, side) => row[1 + side][1];
  const words = (row, side) => row[1 + side][0].length;
  let chosen = 1; // the side that is compared with the reference
  const gain = (row) => reward(row, chosen) - reward(row, 0);
  const figure = (value, plus) => {
    const size = Math.abs(value);
    const text = size.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1);
    return (value < 0 ? "−" : plus ? "+" : "") + text;
  };
  const orders = {
    worst: gain,
    best: (row) => -gain(row),
    low: (row) => reward(row, chosen),
    high: (row) => -reward(row, chosen),
    long: (row) => -words(row, chosen),
    short: (row) => words(row, chosen),
    split: () => 0,
  };
  const EQUAL = 1e-9;
  const kinds = {
    all: () => true,
    wins: (row) => gain(row) > EQUAL,
    ties: (row) => Math.abs(gain(row)) <= EQUAL,
    losses: (row) => gain(row) < -EQUAL,
  };

  const texts = new Array(rows.length); // lower case, made when something is searched for
  const text = (index) => {
    if (texts[index] === undefined) {
      const [place, ...found] = rows[index];
      const [prompt, logged] = prompts[place];
      texts[index] = [prompt, logged || "", ...found.map((side) => side[0])].join("\n").toLowerCase();
    }
    return texts[index];
  };

  let shown = []; // indices of rows, in the order of the list
  let current = 0; // place in it

  function arrange() {
    const sought = at("query").value.trim().toLowerCase();
    const kind = kinds[scored ? at("kind").value : "all"];
    const order = orders[at("order").value];
    chosen = at("side") ? Number(at("side").value) : 1;
    const key = new Float64Array(rows.length);
    shown = [];
    rows.forEach((row, index) => {
      if (kind(row) && (sought === "" || text(index).includes(sought))) {
        key[index] = order(row);
        shown.push(index);
      }
    });
    shown.sort((a, b) => key[a] - key[b] || a - b);
    current = 0;
    at("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} responses`;
    at("space").style.height = `${shown.length * HEIGHT}px`;
    at("list").scrollTop = 0;
    draw();
    detail();
  }

  const made = (name, kind, content) => {
    const element = document.createElement(name);
    if (kind) element.className = kind;
    if (content !== undefined) element.textContent = content;
    return element;
  };

  function option(place) {
    const row = rows[shown[place]];
    const element = made("div", "row");
    element.id = `row-${place}`;
    element.setAttribute("role", "option");
    element.setAttribute("aria-selected", String(place === current));
    element.setAttribute("aria-setsize", String(shown.length));
    element.setAttribute("aria-posinset", String(place + 1));
    element.style.transform = `translateY(${place * HEIGHT}px)`;
    if (scored) {
      const value = gain(row);
      element.append(made("span", `gain ${value > EQUAL ? "up" : value < -EQUAL ? "down" : ""}`, figure(value, true)), " ");
    }
    const prompt = prompts[row[0]][0];
    const end = prompt.length > END ? `… ${prompt.slice(-END)}` : prompt;
    element.append(made("span", "end", end), " ", made("span", "start", row[1 + chosen][0].slice(0, START) || "(empty)"));
    element.addEventListener("click", () => select(place));
    return element;
  }

  function draw() {
    const list = at("list");
    const first = Math.max(0, Math.floor(list.scrollTop / HEIGHT) - MORE);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / HEIGHT) + MORE);
    const found = [];
    for (let place = first; place < last; place++) found.push(option(place));
    at("space").replaceChildren(...found);
    if (current >= first && current < last) list.setAttribute("aria-activedescendant", `row-${current}`);
    else list.removeAttribute("aria-activedescendant");
  }

  function select(place) {
    if (shown.length === 0) return;
    current = Math.min(Math.max(place, 0), shown.length - 1);
    const list = at("list");
    const top = current * HEIGHT;
    if (top < list.scrollTop) list.scrollTop = top;
    else if (top + HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + HEIGHT - list.clientHeight;
    draw();
    detail();
  }

  // a text whose matches with the search are marked
  function marked(element, content) {
    const sought = at("query").value.trim().toLowerCase();
    const lower = content.toLowerCase();
    if (sought === "" || lower.length !== content.length) {
      element.textContent = content;
      return element;
    }
    let from = 0;
    for (let found = lower.indexOf(sought); found >= 0; found = lower.indexOf(sought, from)) {
      element.append(content.slice(from, found), made("mark", "", content.slice(found, found + sought.length)));
      from = found + sought.length;
    }
    element.append(content.slice(from));
    return element;
  }

  function card(name, content, figures) {
    const section = made("section", "side");
    const heading = made("h4", "", name);
    if (figures) heading.append(" ", made("span", "", figures));
    const body = made("p", "");
    body.dir = "auto";
    if (content === "") body.append(made("span", "soft", "(empty)"));
    else marked(body, content);
    section.append(heading, body);
    return section;
  }

  function detail() {
    const place = at("detail");
    if (shown.length === 0) {
      place.replaceChildren(made("p", "soft", "No response is like this."));
      return;
    }
    const row = rows[shown[current]];
    const [prompt, logged, stored] = prompts[row[0]];
    const label = { reward: "reward", test_reward: "held-out" };
    const told = (side) => scores.map((score, index) => `${label[score]} ${figure(row[1 + side][1 + index])}`).join(" · ");
    const heading = made("h3", "", `Prompt ${(row[0] + 1).toLocaleString("en")}`);
    if (scored) heading.append(" ", made("span", "soft", `gain ${figure(gain(row), true)}`));
    const asked = marked(made("p", "prompt"), prompt);
    asked.dir = "auto";
    const cards = made("div", "sides");
    const order = [chosen, 0, ...sides.keys()].filter((one, index, every) => every.indexOf(one) === index);
    order.forEach((one) => cards.append(card(sides[one], row[1 + one][0], told(one))));
    if (logged !== null) cards.append(card("logged", logged, stored === null ? "" : `stored reward ${figure(stored)}`));
    place.replaceChildren(heading, asked, cards);
    place.scrollTop = 0;
  }

  at("list").addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(at("list").clientHeight / HEIGHT) - 1);
    const to = {
      ArrowDown: current + 1,
      ArrowUp: current - 1,
      PageDown: current + page,
      PageUp: current - page,
      Home: 0,
      End: shown.length - 1,
    }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    select(to);
  });
  at("query").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowDown") return;
    event.preventDefault();
    at("list").focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    at("query").focus();
  });
  let drawing = false;
  at("list").addEventListener("scroll", () => {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      draw();
    });
  });
  addEventListener("resize", draw);
  at("query").addEventListener("input", arrange);
  for (const id of ["side", "kind", "order"]) if (at(id)) at(id).addEventListener("change", arrange);
  at("browser").hidden = false;
  arrange();
})();
