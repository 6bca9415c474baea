// Runs before the first paint: marks that scripts are enabled and applies the last chosen theme.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var chosen = window.localStorage.getItem("steppe-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch (error) { /* private windows refuse storage: the system theme applies */ }
})();
