// pymdownx.arithmatex leaves formulas as \(…\) in a span and \[…\] in a div
for (const element of document.querySelectorAll(".arithmatex")) {
  katex.render(element.textContent.trim().slice(2, -2), element, { displayMode: element.tagName === "DIV" });
}
