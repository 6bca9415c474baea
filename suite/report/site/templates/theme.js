// Runs before anything is painted: scripts are on, and the theme is the reader's last choice.
(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");
  try {
    var chosen = window.localStorage.getItem("steppe-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch (error) { /* private windows refuse storage: the system's theme stands */ }
})();
