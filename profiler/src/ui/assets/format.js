// Numbers with units, three digits.

const digits = (value) => {
  const size = Math.abs(value);
  return value.toFixed(size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : 2);
};

function scaled(value, base, steps) {
  let index = 0;
  while (index + 1 < steps.length && Math.abs(value) >= base) { value /= base; index += 1; }
  return `${digits(value)} ${steps[index]}`.trim();
}

export const bytes = (value) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
export const count = (value) => Math.abs(value) < 10000 && Number.isInteger(value)
  ? String(value) : scaled(value, 1000, ["", "k", "M", "G", "T"]);
export const percent = (part, whole) => whole > 0 ? `${(100 * part / whole).toFixed(1)} %` : "";

export function time(nanoseconds) {
  if (Math.abs(nanoseconds) < 1e9) return scaled(nanoseconds, 1000, ["ns", "µs", "ms"]);
  const seconds = nanoseconds / 1e9;
  return seconds < 120 ? `${digits(seconds)} s` : seconds < 7200 ? `${digits(seconds / 60)} min` : `${digits(seconds / 3600)} h`;
}

// A value of a profile, by the profile's unit.
export function quantity(value, unit) {
  if (unit === "nanoseconds") return time(value);
  if (unit === "bytes") return bytes(value);
  return unit === "count" ? count(value) : `${count(value)} ${unit}`;
}
