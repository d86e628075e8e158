/** The dialog that chooses a folder of videos. */

import { address, request } from "./api.js";
import { attempt, find, formatCount, make, makeButton } from "./dom.js";

/** Ask for a folder; `open` is called with its path. */
export function listenToFolders(open) {
  const dialog = find("folder-dialog");
  let path = null;
  const show = async (folder) => {
    const answer = await request("GET", address("folders", { path: folder }));
    path = answer.path;
    find("folder-path").textContent = path ?? "Folders that may be opened";
    find("folder-open").disabled = !path;
    const item = (text, target) => make("li", {}, makeButton(text, () => attempt(() => show(target)), { className: "item" }));
    const items = answer.folders.map((one) => item(`${one.name} (${formatCount(one.num_videos, "video")})`, one.path));
    if (answer.parent) items.unshift(item("One folder up", answer.parent));
    if (!items.length) items.push(make("li", { className: "faint" }, "There are no folders in it."));
    find("folder-list").replaceChildren(...items);
  };
  find("open-folder").onclick = () => attempt(async () => {
    await show(null);
    dialog.showModal();
  });
  find("folder-cancel").onclick = () => dialog.close();
  find("folder-open").onclick = () => attempt(async () => {
    await open(path);
    dialog.close();
  });
}
