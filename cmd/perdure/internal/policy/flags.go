package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy"
)

// Annotations of a flag.
const (
	Group = "group" // heading of the flag in help
	Words = "words" // all values of the flag, if they are a few words
	// Hidden is the reason for which help only names the flag, and describes it in the
	// manual page alone.
	Hidden = "hidden"
)

// Flags are a command's policy flags.
type Flags struct {
	config    string       // path of the file
	policy    string       // name of a policy in the file
	file      *policy.File // nil until it is read
	chooses   bool         // the command has a policy, not only a store
	values    []*value
	overrides []policy.Value // see Override
	choice    policy.Value   // see Override
	preferred string         // see Prefer
	rerun     int            // see Rerun
}

// A value is the value of a flag. Source.Settings checks its text, together with those of
// the file and the environment, so that errors have the same form.
type value struct {
	Parameter
	kind  string // placeholder of the value in help
	list  bool   // the flag may be repeated, and its values are appended
	given bool
	text  string
}

func (v *value) Type() string   { return v.kind }
func (v *value) String() string { return v.text }

func (v *value) Set(text string) error {
	if v.list && v.given {
		text = v.text + "," + text
	}
	v.text, v.given = text, true
	return nil
}

// Add adds the policy flags to flags. Advanced ones are hidden (see Hide): "perdure help
// policy" lists all parameters.
func Add(flags *pflag.FlagSet) *Flags {
	f := add(flags, func(Parameter) bool { return true })
	if f.chooses = true; flags.Lookup("policy") == nil {
		flags.StringVar(&f.policy, "policy", "", "`name` of a policy of the file")
		flags.Lookup("policy").Annotations = map[string][]string{Group: {"Policy"}}
	}
	return f
}

// AddStore adds only the flags that choose the store of breakers.
func AddStore(flags *pflag.FlagSet) *Flags {
	f := add(flags, func(p Parameter) bool { return p.Name == "store" })
	return f
}

func add(flags *pflag.FlagSet, wanted func(Parameter) bool) *Flags {
	f := &Flags{}
	advanced := []string{
		"throttle_delay", "retry_nested", "half_open_max", "probe_lease", "window", "min_calls", "failure_ratio",
		"slow_call", "slow_ratio", "open_growth", "open_jitter", "open_max", "observe_only",
	}
	for _, p := range Parameters() {
		if !wanted(p) {
			continue
		}
		v := newValue(p)
		f.values = append(f.values, v)
		flag := flags.VarPF(v, p.Flag(), "", p.Describe())
		title := "Circuit breaker"
		if p.Section() == "policy" {
			title = "Policy"
		}
		flag.Annotations = map[string][]string{Group: {title}, Words: p.Words()}
		if slices.Contains(advanced, p.Name) {
			Hide(flag, "for fine tuning (perdure help policy describes them)")
		}
		if v.kind == "bool" {
			flag.NoOptDefVal = "true"
		}
	}
	f.addConfig(flags)
	flags.SetNormalizeFunc(normal)
	return f
}

// Hide removes flag from the list of flags in help. Help names the flag in another list,
// under the reason.
func Hide(flag *pflag.Flag, reason string) {
	flag.Hidden = true
	flag.Annotations[Hidden] = []string{reason}
}

// AddFile adds only the flag that names the policy file.
func AddFile(flags *pflag.FlagSet) *Flags {
	f := &Flags{}
	f.addConfig(flags)
	return f
}

func (f *Flags) addConfig(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "YAML `file` with policies (~/.config/perdure/policies.yaml); see: perdure help policy")
	flags.Lookup("config").Annotations = map[string][]string{Group: {"Policy"}}
}

// normal lets a flag be written like its parameter: --max_attempts.
func normal(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	if name == "recovery-timeout-seconds" {
		name = "recovery-timeout"
	}
	return pflag.NormalizedName(name)
}

func newValue(p Parameter) *value {
	v := &value{Parameter: p, kind: "name"}
	for _, k := range []struct{ want, kind string }{
		{"seconds", "seconds"},
		{"calls per second", "rate"},
		{"a whole number", "n"},
		{"a number", "x"},
		{"true or false", "bool"},
		{"values", "list"},
		{"a text", "text"},
	} {
		if strings.HasPrefix(p.Want, k.want) {
			v.kind = k.kind
		}
	}
	v.list = v.kind == "list"
	return v
}

// Wait returns the value of a flag that is a duration from 1ms to 24h.
func Wait(at *time.Duration) pflag.Value { return Span(at, time.Millisecond, 24*time.Hour) }

// Span returns the value of a flag that is a duration from low to high.
func Span(at *time.Duration, low, high time.Duration) pflag.Value {
	return number[time.Duration]{at, "seconds", setting.Span("", "", low, high, setting.None, self)}
}

// Ratio returns the value of a flag that is above 0 and at most 1.
func Ratio(at *float64) pflag.Value { return Number(at, 1) }

// Number returns the value of a flag that is above 0 and at most high.
func Number(at *float64, high float64) pflag.Value {
	return number[float64]{at, "x", setting.Ratio("", "", 0, high, self)}
}

// Rate returns the value of a flag that is a rate per second.
func Rate(at *float64) pflag.Value {
	return number[float64]{at, "rate", setting.Rate("", "", self)}
}

// Whole returns the value of a flag that is a whole number from low to high.
func Whole(at *int, low, high int) pflag.Value {
	return number[int]{at, "n", setting.Whole("", "", low, high, setting.None, self)}
}

func self[T any](v *T) *T { return v }

// A number is the value of a flag. Zero means that the flag was not given.
type number[T comparable] struct {
	at    *T
	kind  string // placeholder of the value in help
	field setting.Field[T]
}

func (n number[T]) Type() string          { return n.kind }
func (n number[T]) Set(text string) error { return n.field.Set(n.at, text) }

func (n number[T]) String() string {
	if n.at == nil || *n.at == *new(T) {
		return ""
	}
	if d, ok := any(*n.at).(time.Duration); ok {
		return setting.DurationText(d)
	}
	return fmt.Sprint(*n.at)
}

// Given returns the first flag that was given and its text, or "" if none was.
func (f *Flags) Given() (flag, text string) {
	if given := f.given(); len(given) > 0 {
		return given[0].Source, given[0].Text
	}
	if f.config != "" {
		return "--config", f.config
	}
	return "", ""
}

// given returns a value for each flag that was given.
func (f *Flags) given() (given []policy.Value) {
	for _, v := range f.values {
		if v.given {
			given = append(given, policy.Value{Name: v.Name, Text: v.text, Source: "--" + v.Flag()})
		}
	}
	return given
}
