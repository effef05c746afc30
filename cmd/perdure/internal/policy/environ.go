package policy

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// prefix is how the names of all our variables begin.
const prefix = "PERDURE_"

// others are the variables that set no parameter. The last is what a command
// that is retried finds in its environment, and may pass on to another perdure.
func others() []string {
	return []string{"PERDURE_CONFIG", "PERDURE_LOG_LEVEL", "PERDURE_STATE", "PERDURE_DAGSTER", "PERDURE_ATTEMPT"}
}

// fromEnviron returns what the environment sets, and the file that it names.
// A variable that is empty counts as unset.
func fromEnviron(environ []string) (set []entry, config entry, warnings []string, err error) {
	for _, pair := range environ {
		variable, text, _ := strings.Cut(pair, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || text == "" {
			continue
		}
		p, known := find(strings.ToLower(name))
		switch {
		case known && slices.ContainsFunc(set, func(e entry) bool { return e.Name == p.Name }):
			return nil, config, warnings, setting.Bad(variable, text, "unset where "+p.Variable()+" is set")
		case known:
			set = append(set, entry{Parameter: p, text: text, source: variable})
		case variable == "PERDURE_CONFIG":
			config = entry{text: text, source: variable}
		case variable == "PERDURE_STATE" && !filepath.IsAbs(text):
			return nil, config, warnings, setting.Bad(variable, text, "an absolute path: a relative one is another directory for each command")
		case !slices.Contains(others(), variable) && !strings.HasPrefix(name, "TEST"):
			warnings = append(warnings, unknown(variable))
		}
	}
	return set, config, warnings, nil
}

// unknown returns the warning about a variable, without its value: that may be
// another program's secret.
func unknown(name string) string {
	names := others()
	for _, p := range Parameters() {
		names = append(names, p.Variable())
	}
	if s := nearest(name, names); s != "" {
		return "unknown environment variable " + name + " (ignored): did you mean " + s + "?"
	}
	return "unknown environment variable " + name + " (ignored)"
}

// nearest compares names without the prefix, which all of them have.
func nearest(name string, names []string) string {
	plain := make([]string, len(names))
	for i, n := range names {
		plain[i] = strings.ToLower(strings.TrimPrefix(n, prefix))
	}
	if s := setting.Nearest(strings.TrimPrefix(name, prefix), plain); s != "" {
		return prefix + strings.ToUpper(s)
	}
	return ""
}
