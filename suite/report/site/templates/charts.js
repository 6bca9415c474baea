// Draws the charts. The library loads after the first paint, when a chart comes near the viewport or the page is idle.
(function () {
  "use strict";
  const steppe = (window.steppe = window.steppe || {});
  const root = document.documentElement.dataset.root;
  const drawn = new Map(); // figure -> { spec, result, width, turn, copied }
  let library = null;

  const load = function () {
    library = library || new Promise(function (resolve, reject) {
      const script = document.createElement("script");
      script.src = `${root}assets/vega.js`;
      script.onload = resolve;
      script.onerror = () => reject(new Error("the chart library is missing"));
      document.head.append(script);
    });
    return library;
  };
  const themed = (spec, dark, width) => ({ ...structuredClone(spec), width, config: (steppe.themes || {})[dark ? "dark" : "light"] });
  const embed = async function (place, spec) {
    const result = await window.vegaEmbed(place, spec, {
      mode: "vega-lite", actions: false, renderer: "svg", defaultStyle: false, tooltip: { disableDefaultStyle: true },
    });
    await result.view.resize().runAsync(); // at the fitted width, a legend may take more lines
    return result;
  };

  const draw = async function (figure) {
    const entry = drawn.get(figure);
    const place = figure.querySelector(".chart");
    const turn = (entry.turn = (entry.turn || 0) + 1);
    place.hidden = false;
    try {
      await load();
      if (turn !== entry.turn) return; // the theme changed again meanwhile
      const before = entry.result;
      // In a separate, hidden element, as the library sets role and name of its container.
      const drawing = document.createElement("div");
      drawing.setAttribute("aria-hidden", "true");
      place.replaceChildren(drawing);
      figure.querySelectorAll(".undrawn").forEach((words) => words.remove());
      const dark = steppe.dark();
      const result = await embed(drawing, themed(entry.spec, dark, (entry.width = place.clientWidth)));
      if (turn !== entry.turn) return result.finalize();
      entry.result = result;
      if (before) before.finalize();
      figure.dataset.drawn = dark ? "dark" : "light";
      figure.querySelector(".save").hidden = false;
    } catch (error) {
      if (turn !== entry.turn) return;
      place.hidden = true; // hidden, as a screen reader would announce only the name of the image
      if (figure.querySelector(".undrawn")) return;
      place.after(steppe.element("p", { class: "notice undrawn", role: "status" },
        `This chart could not be drawn (${error.message}); the tables have its numbers.`));
    }
  };

  const near = new IntersectionObserver(function (entries) {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });

  steppe.chart = function (figure, spec) {
    drawn.set(figure, { spec });
    near.observe(figure);
    if (document.readyState === "complete") idle(copyNext);
  };
  // Returns a figure for a chart of a page that scripts build.
  steppe.figure = function (title, description, spec, file) {
    const h = steppe.element;
    const saves = ["svg", "png"].map((kind) =>
      h("button", { type: "button", class: "quiet", "data-save": kind },
        `Save ${kind.toUpperCase()}`, h("span", { class: "sr" }, ` of ${title}`)));
    const figure = h("figure", { class: "plot", "data-chart": title, "data-file": file },
      h("figcaption", null, title),
      h("div", { class: "chart", role: "img", "aria-label": description }),
      h("div", { class: "save", hidden: true }, saves));
    steppe.chart(figure, spec);
    return figure;
  };

  // Charts are redrawn once resizing of the window has stopped.
  let resizing = 0;
  window.addEventListener("resize", function () {
    window.clearTimeout(resizing);
    resizing = window.setTimeout(function () {
      for (const [figure, entry] of drawn) {
        const width = figure.querySelector(".chart").clientWidth;
        if (entry.turn && width && width !== entry.width) draw(figure);
      }
    }, 200);
  });

  document.addEventListener("steppe-theme", function () {
    for (const [figure, entry] of drawn) if (entry.turn) draw(figure);
  });

  document.addEventListener("click", async function (event) {
    const button = event.target instanceof Element && event.target.closest("[data-save]");
    if (!button) return;
    const figure = button.closest("figure");
    const kind = button.dataset.save;
    // A saved file has the light theme, an opaque background and a title.
    const spec = themed(drawn.get(figure).spec, false, Math.max(720, drawn.get(figure).width));
    const result = await embed(document.createElement("div"),
      { ...spec, title: spec.usermeta.saved, background: "white", padding: 12 });
    const link = document.createElement("a");
    link.href = await result.view.toImageURL(kind, kind === "png" ? 2 : 1);
    link.download = `${figure.dataset.file.replace(/[^A-Za-z0-9.-]+/g, "-").replace(/^[-.]+/, "").slice(0, 110) || "chart"}.${kind}`;
    result.finalize();
    link.click();
  });

  // Printing needs light charts at once, so every chart gets a print copy while the page is idle.
  const idle = window.requestIdleCallback || ((call) => window.setTimeout(call, 300));
  const copyForPaper = async function (figure, spec) {
    const place = document.createElement("div");
    place.className = "print-chart";
    place.setAttribute("aria-hidden", "true");
    figure.append(place);
    try {
      await load();
      (await embed(place, themed(spec, false, 300))).finalize();
    } catch (error) {
      place.remove(); // the chart on the screen is printed instead
    }
  };
  const copyNext = function () {
    for (const [figure, entry] of drawn) {
      if (entry.copied) continue;
      entry.copied = true;
      copyForPaper(figure, entry.spec).then(() => idle(copyNext));
      return;
    }
  };

  const waiting = document.querySelectorAll("figure[data-chart]");
  if (waiting.length && (!steppe.charts || !steppe.themes)) steppe.missing();
  for (const figure of waiting) {
    const spec = (steppe.charts || {})[figure.dataset.chart];
    if (spec) steppe.chart(figure, spec);
    else figure.hidden = true;
  }
  window.addEventListener("load", () => idle(copyNext));
})();
