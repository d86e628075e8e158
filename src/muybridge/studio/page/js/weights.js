/** What the page says of weights to start from. */

import { formatCount, make } from "./dom.js";

export function describeWeights(one) {
  const parts = [one.network, one.num_classes && formatCount(one.num_classes, "class"), one.accuracy, one.licence, one.is_local ? "on this machine" : "downloaded first"];
  return parts.filter(Boolean).join(" · ");
}

/** What a list of weights shows until it is read. */
export const makeLoading = () => make("option", { value: "" }, "Loading…");
