package policy

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// prefix begins the names of all variables of perdure.
const prefix = "PERDURE_"

// others returns the variables that set no parameter. PERDURE_ATTEMPT is set by run for
// its command, which may be another perdure.
func others() []string {
	return []string{"PERDURE_CONFIG", "PERDURE_LOG_LEVEL", "PERDURE_STATE", "PERDURE_DAGSTER", "PERDURE_ATTEMPT"}
}

// fromEnviron returns the parameters that the environment sets, and the file that it
// names. An empty variable counts as unset.
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

// unknown returns the warning about an unknown variable, without its value: that may be
// a secret of another program.
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

// nearest returns the name in names that is nearest to name, or "".
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
