/** What the page says of weights to start from. */

export function describeWeights(one) {
  const parts = [one.network, one.num_classes && `${one.num_classes} classes`, one.accuracy, one.licence, one.is_local ? "on this machine" : "downloaded first"];
  return parts.filter(Boolean).join(" · ");
}
