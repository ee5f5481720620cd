// Package logmine mines templates from log lines, online and in one pass: each
// line gets the id of its template when it arrives, and templates generalise
// as lines show what varies.
//
// It owns the splitting of lines into words and variables, the templates with
// their counts, what people decided about them, and the snapshot of all that.
// It reads no clock, starts nothing, writes no logs and knows neither sources
// nor time: numbers of lines stand for time. It knows no words of any system.
// What it takes for a variable follows from the form of a token, from what
// stands around it, and from what was seen before; the literals of programming
// languages (true, null) are the only words it was taught.
//
// Invariants: every line has a template. The ids of templates never change,
// not by generalising, merging, a snapshot or a new version of the scanner;
// the id of a template that was merged away still leads to the one that
// stayed. Memory is bounded by the Config whatever the lines hold, and so is
// the time for one line. The same lines give the same ids on every platform.
// What people named, pinned, merged, split or marked is never undone by lines.
package logmine
