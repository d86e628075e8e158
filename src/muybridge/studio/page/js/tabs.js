/** Tabs by the pattern of the ARIA authoring practices: arrows move, the chosen panel is shown. */

import { find, make } from "./dom.js";

/** Make the tabs; returns the function that opens a panel. */
export function makeTabs(panels, onopen) {
  const tabs = panels.map((panel, place) => make("button", { type: "button", role: "tab", id: `tab-${place}`, "aria-controls": `panel-${place}` }, panel.title));
  const frames = panels.map((panel, place) => make("div", { className: "panel", role: "tabpanel", id: `panel-${place}`, tabIndex: 0, "aria-labelledby": `tab-${place}` }, panel.element));
  const open = (chosen) => {
    tabs.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      frames[place].hidden = place !== chosen;
    });
    onopen(panels[chosen]);
  };
  tabs.forEach((tab, place) => {
    tab.onclick = () => open(place);
    tab.onkeydown = (event) => {
      const targets = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: tabs.length - 1 };
      if (!(event.key in targets)) return;
      event.preventDefault();
      const target = (targets[event.key] + tabs.length) % tabs.length;
      tabs[target].focus();
      open(target);
    };
  });
  find("tabs").append(...tabs);
  find("panels").append(...frames);
  open(0);
  return (panel) => {
    const place = panels.indexOf(panel);
    if (frames[place].hidden) open(place);
  };
}
