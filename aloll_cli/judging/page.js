"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const at = (id) => document.getElementById(id);
  const labels = Object.keys(content.labels);
  const key = "aloll votes " + content.page;

  // what a voter has said so far: kept in the browser, so that the page can be closed
  const fresh = () => ({ voter: "", seed: crypto.getRandomValues(new Uint32Array(1))[0], votes: {} });
  let keeps = true;
  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(key));
      if (found && typeof found.voter === "string" && Number.isInteger(found.seed) && found.votes) return found;
    } catch (error) {
      keeps = false;
    }
    return fresh();
  }
  const state = load();
  function save() {
    try {
      localStorage.setItem(key, JSON.stringify(state));
    } catch (error) {
      keeps = false;
    }
    if (!keeps) at("kept").textContent = "This browser keeps nothing: download your votes before you close the page.";
  }

  // every voter sees the pairs and the sides in an order of their own
  function random(seed) {
    let value = seed >>> 0;
    return () => {
      value = (value + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(value ^ (value >>> 15), value | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }
  const draw = random(state.seed);
  const pairs = content.pairs.map((pair) => ({ ...pair, first: draw() < 0.5 ? 0 : 1 }));
  for (let i = pairs.length - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [pairs[i], pairs[j]] = [pairs[j], pairs[i]];
  }

  const said = (pair) => (state.votes[pair.pair] || { labels: {} }).labels;
  const missing = (pair) => content.questions.findIndex(([name]) => !Object.hasOwn(said(pair), name));
  const firstOpen = () => pairs.findIndex((pair) => missing(pair) >= 0);
  let place = firstOpen() < 0 ? pairs.length : firstOpen(); // behind the last pair nothing is left to vote about
  let question = place < pairs.length ? missing(pairs[place]) : 0;

  function vote(index, label) {
    const pair = pairs[place];
    if (pair === undefined) return;
    const name = content.questions[index][0];
    const before = state.votes[pair.pair] || { first: pair.first, labels: {} };
    state.votes[pair.pair] = { first: before.first, labels: { ...before.labels, [name]: label } };
    save();
    question = index + 1 < content.questions.length ? index + 1 : missing(pair);
    if (question < 0) go(place + 1 === pairs.length && firstOpen() >= 0 ? firstOpen() : place + 1);
    else show();
  }

  function go(to) {
    if (to < 0 || to > pairs.length) return;
    place = to;
    question = place < pairs.length ? Math.max(missing(pairs[place]), 0) : 0;
    show();
  }

  function show() {
    const started = state.voter !== "";
    at("who").hidden = started;
    const pair = pairs[place];
    at("pair").hidden = !started || pair === undefined;
    const whole = pairs.filter((pair) => missing(pair) < 0).length;
    at("progress").textContent = started ? `${state.voter}: ${pair ? `pair ${place + 1} of ${pairs.length}, ` : ""}${whole} of ${pairs.length} judged` : `${pairs.length} pairs`;
    at("done").hidden = !started || whole < pairs.length;
    at("download").disabled = !started;
    if (!started || pair === undefined) return;
    at("prompt").textContent = pair.prompt;
    at("A").textContent = pair.texts[pair.first] || "(empty)";
    at("B").textContent = pair.texts[1 - pair.first] || "(empty)";
    at("questions").replaceChildren(
      ...content.questions.map(([name, text], index) => {
        const field = document.createElement("fieldset");
        field.className = index === question ? "now" : "";
        const legend = document.createElement("legend");
        legend.textContent = text;
        field.append(legend);
        labels.forEach((label, number) => {
          const button = document.createElement("button");
          button.type = "button";
          button.textContent = `${number + 1} ${label}`;
          button.title = content.labels[label];
          button.setAttribute("aria-pressed", String(said(pair)[name] === label));
          button.addEventListener("click", () => vote(index, label));
          field.append(button, " ");
        });
        return field;
      }),
    );
  }

  function votes() {
    const found = content.pairs
      .filter((pair) => Object.hasOwn(state.votes, pair.pair))
      .map((pair) => ({ pair: pair.pair, ...state.votes[pair.pair] }));
    return JSON.stringify({ format: content.format, page: content.page, voter: state.voter, votes: found }, null, 1);
  }

  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([votes()], { type: "application/json" }));
    link.download = `votes-${content.page}-${state.voter.replace(/[^A-Za-z0-9_-]+/g, "_")}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  at("instruction").textContent = content.instruction;
  at("who").addEventListener("submit", (event) => {
    event.preventDefault();
    state.voter = at("voter").value.trim();
    save();
    at("voter").blur();
    show();
  });
  at("back").addEventListener("click", () => go(place - 1));
  at("forward").addEventListener("click", () => go(place + 1));
  at("download").addEventListener("click", download);
  document.addEventListener("keydown", (event) => {
    if (state.voter === "" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const number = ["1", "2", "3", "4"].indexOf(event.key);
    if (number >= 0) vote(question, labels[number]);
    else if (event.key === "ArrowLeft" || event.key === "Backspace") go(place - 1);
    else if (event.key === "ArrowRight") go(place + 1);
    else return;
    event.preventDefault();
  });
  show();
})();
