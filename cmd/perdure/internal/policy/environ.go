package policy

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy"
)

// prefix begins the names of all variables of perdure.
const prefix = "PERDURE_"

// others returns the variables that set no parameter. PERDURE_ATTEMPT is set by run for
// its command, and BreakerVariables are set for that of --on-open: they may be another perdure.
func others() []string {
	return append(BreakerVariables(), "PERDURE_CONFIG", "PERDURE_POLICY", "PERDURE_LOG_LEVEL", "PERDURE_LOG_FORMAT", "PERDURE_STATE", "PERDURE_DAGSTER", "PERDURE_METRICS_FILE", "PERDURE_ATTEMPT")
}

// BreakerVariables returns the variables that tell the command of --on-open of the breaker:
// its name, its state, the reason, the number in the reason, and when the next probe is.
func BreakerVariables() []string {
	return []string{"PERDURE_BREAKER", "PERDURE_BREAKER_STATE", "PERDURE_BREAKER_REASON", "PERDURE_BREAKER_FAILURES", "PERDURE_BREAKER_NEXT_PROBE"}
}

// A set holds the variables of the environment. A config or choice without Source is unset.
type set struct {
	values []policy.Value
	config policy.Value // path of the file
	choice policy.Value // name of a policy of the file
}

// fromEnviron returns what the environment sets. An empty variable counts as unset.
func fromEnviron(environ []string) (s set, warnings []string, err error) {
	for _, pair := range environ {
		variable, text, _ := strings.Cut(pair, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || text == "" {
			continue
		}
		p, known := find(strings.ToLower(name))
		v := policy.Value{Name: p.Name, Text: text, Source: variable}
		switch {
		case known && slices.ContainsFunc(s.values, func(e policy.Value) bool { return e.Name == p.Name }):
			return s, warnings, setting.Bad(variable, text, "unset where "+p.Variable()+" is set")
		case known:
			s.values = append(s.values, v)
		case variable == "PERDURE_CONFIG":
			s.config = v
		case variable == "PERDURE_POLICY":
			s.choice = v
		case variable == "PERDURE_STATE" && !filepath.IsAbs(text):
			return s, warnings, setting.Bad(variable, text, "an absolute path: a relative one is another directory for each command")
		case !slices.Contains(others(), variable) && !strings.HasPrefix(name, "TEST"):
			warnings = append(warnings, unknown(variable))
		}
	}
	return s, warnings, nil
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
