// Limits of the levels, in percent.

const lines = (amber, red) => [{ at: amber, colour: "--warn" }, { at: red, colour: "--alarm" }];

export const BUSY = { amber: 70, red: 90, lines: lines(70, 90) };
export const FULL = { amber: 80, red: 90, lines: lines(80, 90) };
export const ERRORS = { amber: Infinity, red: 5 };
