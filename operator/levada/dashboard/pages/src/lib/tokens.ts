/**
 * Strings, keys and values of JSON and YAML. No part can begin where another could go on, and a string ends with its line: runs
 * choose the text, and a pattern that has to look twice holds a browser for half a minute.
 */
export const TOKEN =
  /("(?:[^"\\\n]|\\.)*(?:"|\\?$))(\s*:)?|(^[ \t]*(?:- +)*[\w./-]+:(?=\s|$))|\b(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|true|false|null)\b/gim;
