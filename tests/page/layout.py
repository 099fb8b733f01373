"""Faults in the layout of a page, found in the browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Each text with the part of it that is visible: what an ancestor cuts off is not.
_FAULTS = r"""
() => {
  const width = document.documentElement.clientWidth;
  const slack = 1.5;
  const shown = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const clips = (style) => style.overflowX !== "visible";
  const floats = (element) => {
    for (; element; element = element.parentElement) {
      if (["fixed", "sticky"].includes(getComputedStyle(element).position)) return true;
      if (element.matches(".tip, dialog")) return true;
    }
    return false;
  };
  const hiddenForEyes = (element) => {
    const { width, height } = element.getBoundingClientRect();
    return element.closest(".hidden, .skip, noscript, script, style, option, title") || width <= 1 || height <= 1;
  };
  const visible = (rect, element) => {
    let { left, right, top, bottom } = rect;
    for (let parent = element; parent; parent = parent.parentElement) {
      if (!clips(getComputedStyle(parent))) continue;
      const box = parent.getBoundingClientRect();
      [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
      [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
    }
    return { left, right, top, bottom };
  };
  const faults = [];
  const whole = document.documentElement.scrollWidth;
  if (whole > width) faults.push(`scrolls horizontally: ${whole} > ${width}`);
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const element = node.parentElement;
    const text = node.data.trim();
    if (!text || !shown(element) || hiddenForEyes(element) || floats(element)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const words = text.split(/[\s/:_-]+/);
    const lines = new Set([...range.getClientRects()].map((rect) => Math.round(rect.top))).size;
    if (lines > words.length && words.every((word) => word.length < 15)) faults.push(`broken in a word: ${text}`);
    for (const rect of range.getClientRects()) {
      const part = visible(rect, element);
      if (part.right - part.left < 1 || part.bottom - part.top < 1) continue;
      texts.push({ text, element, ...part });
      if (part.right > width + slack || part.left < -slack) faults.push(`beyond the screen: ${text}`);
    }
    for (let parent = element; parent && parent !== document.body; parent = parent.parentElement) {
      const style = getComputedStyle(parent);
      if (!clips(style) || ["auto", "scroll"].includes(style.overflowX)) continue;
      const marked = style.textOverflow === "ellipsis" || style.webkitLineClamp !== "none";
      if (!marked && parent.scrollWidth > parent.clientWidth + slack) faults.push(`cut without an ellipsis: ${text}`);
      if (marked) break;
    }
  }
  for (const canvas of document.querySelectorAll("canvas, svg, .meter")) {
    if (!shown(canvas) || floats(canvas)) continue;
    const rect = visible(canvas.getBoundingClientRect(), canvas.parentElement);
    if (rect.right - rect.left < 1 || rect.bottom - rect.top < 1 || canvas.closest("button, a")) continue;
    if (rect.right > width + slack) faults.push(`beyond the screen: <${canvas.tagName}>`);
    texts.push({ text: `<${canvas.tagName} in ${canvas.parentElement.className}>`, element: canvas, ...rect });
  }
  texts.sort((one, other) => one.top - other.top);
  for (let first = 0; first < texts.length; first++) {
    const one = texts[first];
    for (let second = first + 1; second < texts.length && texts[second].top < one.bottom; second++) {
      const other = texts[second];
      const wide = Math.min(one.right, other.right) - Math.max(one.left, other.left);
      const high = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
      if (wide < 2 || high < 4 || one.element.contains(other.element) || other.element.contains(one.element)) continue;
      faults.push(`overlap: ${one.text} | ${other.text}`);
    }
  }
  return [...new Set(faults)];
}
"""


def faults(page: Page) -> list[str]:
    """Return what is beyond the screen, cut without an ellipsis, broken in a short word, or over its neighbour."""
    found: list[str] = page.evaluate(_FAULTS)
    return found
