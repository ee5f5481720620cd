package bench

import "encoding/json"

// LogAccuracy is how well lines were grouped and templates found. All four
// measures are from 0 to 1 and take a group as right only if it holds exactly
// the lines of a true group.
type LogAccuracy struct {
	Grouping   float64 `json:"grouping_accuracy"` // share of lines in a right group
	GroupingF1 float64 `json:"grouping_f1"`       // right groups against found and true ones
	Parsing    float64 `json:"parsing_accuracy"`  // share of lines whose template has the true text
	TemplateF1 float64 `json:"template_f1"`       // right groups with the true text against found and true ones
}

func (a *LogAccuracy) add(b LogAccuracy, weight float64) {
	a.Grouping += b.Grouping * weight
	a.GroupingF1 += b.GroupingF1 * weight
	a.Parsing += b.Parsing * weight
	a.TemplateF1 += b.TemplateF1 * weight
}

// measureLogs compares found groups and templates, given for each line, with
// the labels of the set.
func measureLogs[G comparable](set *logSet, group []G, text []string) LogAccuracy {
	type found struct {
		lines  int
		truth  int
		pure   bool // all lines are of one true group
		sample int  // a line of it
	}
	groups := map[G]*found{}
	size := make([]int, len(set.text))
	parsed := 0
	for i, g := range group {
		truth := set.group[i]
		size[truth]++
		f := groups[g]
		if f == nil {
			f = &found{truth: truth, pure: true, sample: i}
			groups[g] = f
		}
		f.lines++
		f.pure = f.pure && f.truth == truth
		if text[i] == set.text[truth] {
			parsed++
		}
	}
	lines, right, exact := 0, 0, 0
	for _, f := range groups {
		if !f.pure || f.lines != size[f.truth] {
			continue
		}
		lines += f.lines
		right++
		if text[f.sample] == set.text[f.truth] {
			exact++
		}
	}
	all := float64(len(group))
	both := float64(len(groups) + len(set.text))
	return LogAccuracy{
		Grouping:   float64(lines) / all,
		GroupingF1: 2 * float64(right) / both,
		Parsing:    float64(parsed) / all,
		TemplateF1: 2 * float64(exact) / both,
	}
}

// MarshalJSON keeps four decimals in JSON, which is what the sets can tell.
func (a LogAccuracy) MarshalJSON() ([]byte, error) {
	type plain LogAccuracy
	round := func(v float64) float64 { return float64(int(v*1e4+0.5)) / 1e4 }
	return json.Marshal(plain{round(a.Grouping), round(a.GroupingF1), round(a.Parsing), round(a.TemplateF1)})
}
