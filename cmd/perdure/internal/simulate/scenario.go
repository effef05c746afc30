package simulate

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy/yamlfile"
	"github.com/seed-0f2c7998/perdure/sim"
)

// scenarios returns the named scenarios, with the most important faults first.
func scenarios() []sim.Scenario {
	fault := func(f sim.Fault) sim.Fault {
		f.From, f.To = 4*time.Second, 9*time.Second
		return f
	}
	shard := sim.Storm("one shard down", fault(sim.Fault{Kind: sim.BlackHole, Shard: 1}))
	shard.Backend.Shards = 10
	return append(
		sim.Storms(),
		sim.Storm("healthy"),
		sim.Storm("black hole", fault(sim.Fault{Kind: sim.BlackHole})),
		shard,
		sim.Storm("surge", fault(sim.Fault{Kind: sim.Surge, Level: 2})),
		sim.Storm("slow network", fault(sim.Fault{Kind: sim.SlowNetwork, Delay: 100 * time.Millisecond})),
	)
}

// ScenarioNames returns the names of the named scenarios.
func ScenarioNames() []string {
	var names []string
	for _, s := range scenarios() {
		names = append(names, word(s.Name))
	}
	return names
}

// Scenario returns the scenario of that name, or the one in the file at that path. source is
// the flag with text.
func Scenario(text, source string) (sim.Scenario, error) {
	for _, s := range scenarios() {
		if word(s.Name) == word(text) {
			return s, nil
		}
	}
	if _, err := os.Stat(text); err != nil && !strings.ContainsAny(text, `./\`) { // not a path
		return sim.Scenario{}, setting.Unknown(source, text, append(ScenarioNames(), "or a YAML file"))
	}
	return fromFile(text, source)
}

// word returns a name in the form of a flag's value: errors_5 for "errors 5 %".
func word(name string) string {
	return strings.Join(strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), "_")
}

// wrap returns names in lines of at most 100 characters.
func wrap(names []string) string {
	text, width := "", len("Scenarios: ")
	for i, name := range names {
		if i > 0 {
			text += ","
			if width += len(name) + 2; width > 100 {
				text, width = text+"\n", len(name)
			} else {
				text += " "
			}
		}
		text += name
	}
	return text
}

// A file is a YAML file of a scenario. Values that it does not set are those of the named
// scenarios, except the faults.
type file struct {
	*yamlfile.File

	scenario sim.Scenario
	places   map[string]place // by path: load.rate
}

// A place is the position of a value in a file, its text, and the lines around it.
type place struct{ at, text, excerpt string }

// A field is a value of a scenario, with its path.
type field struct {
	path, want string
	set        func(text string) bool
	words      []string // all values, if they are a few words
}

func fromFile(path, source string) (sim.Scenario, error) {
	f := &file{scenario: sim.Storm(report.Line(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))), places: map[string]place{}}
	var names []string
	for _, known := range append(f.fields(), faultFields("", new(sim.Fault))...) {
		names = append(names, known.path[strings.LastIndexByte(known.path, '.')+1:])
	}
	var err error
	words := yamlfile.Words{Sections: []string{"load", "clients", "backend", "service", "faults"}, Names: names, Example: "duration: 22"}
	if f.File, err = yamlfile.Read(path, source, words); err != nil {
		return sim.Scenario{}, err
	}
	if err := f.read("", f.Body, f.fields()); err != nil {
		return sim.Scenario{}, err
	}
	if err := f.idle(); err != nil {
		return sim.Scenario{}, err
	}
	if _, given := f.places["load.rate"]; !given && f.scenario.Load.Clients > 0 {
		f.scenario.Load.Rate = 0 // in a closed loop the clients determine the rate
	}
	return f.scenario, f.explain(f.scenario.Validate())
}

// idle refuses values outside of faults that others leave without effect.
func (f *file) idle() error {
	l, shape := f.scenario.Load, f.scenario.Backend.Service.Distribution
	for _, value := range []struct {
		path, where string
		idle        bool
	}{
		{"load.think", "without load.clients", l.Clients == 0},
		{"load.batch", "with load.clients", l.Clients > 0},
		{"load.every", "with load.clients", l.Clients > 0},
		{"load.batch", "with load.every", l.Every > 0},
		{"backend.service.spread", "on this distribution", shape == sim.Constant || shape == sim.Exponential},
	} {
		if _, given := f.places[value.path]; given && value.idle {
			return f.refuse(value.path, "absent: it has no effect "+value.where)
		}
	}
	return nil
}

// fields returns the fields of the file, except those of faults.
func (f *file) fields() []field {
	s := &f.scenario
	l, c, b := &s.Load, &s.Clients, &s.Backend
	return []field{
		{path: "name", want: "a text", set: func(text string) bool { s.Name = report.Line(text); return text != "" }},
		duration("duration", &s.Duration, 1),
		duration("drain", &s.Drain, 1),
		number("load.rate", &l.Rate, 0),
		whole("load.batch", &l.Batch),
		duration("load.every", &l.Every, 0),
		whole("load.clients", &l.Clients),
		duration("load.think", &l.Think, 0),
		whole("clients.processes", &c.Processes),
		yes("clients.shared", &c.Shared),
		special("unlimited", 0, duration("clients.deadline", &c.Deadline, 1), &c.Deadline),
		whole("backend.workers", &b.Workers),
		special("unlimited", 0, special("0", sim.NoQueue, whole("backend.queue", &b.Queue), &b.Queue), &b.Queue),
		number("backend.slowdown", &b.Slowdown, 0),
		whole("backend.shards", &b.Shards),
		yes("backend.last_in_first_out", &b.LastInFirstOut),
		yes("backend.skips_abandoned", &b.SkipsAbandoned),
		duration("backend.network", &b.Network, 0),
		duration("backend.service.mean", &b.Service.Mean, 1),
		choice("backend.service.distribution", &b.Service.Distribution, "uniform", "constant", "exponential", "log_normal"),
		number("backend.service.spread", &b.Service.Spread, math.SmallestNonzeroFloat64),
	}
}

func faultFields(path string, f *sim.Fault) []field {
	var kinds []string
	for k := sim.Outage; k <= sim.ClockStep; k++ {
		kinds = append(kinds, k.String())
	}
	return []field{
		choice(path+".kind", &f.Kind, kinds...),
		duration(path+".from", &f.From, 0),
		duration(path+".to", &f.To, 0),
		whole(path+".shard", &f.Shard),
		number(path+".level", &f.Level, 0),
		duration(path+".ramp", &f.Ramp, 0),
		duration(path+".retry_after", &f.RetryAfter, 0),
		duration(path+".delay", &f.Delay, math.MinInt64),
	}
}

// faultSettings returns the settings of a kind of fault besides kind, from and to: one that it needs, if
// any, and others.
func faultSettings(kind sim.Kind) (needs string, may []string) {
	switch kind {
	case sim.Outage, sim.Crash, sim.BlackHole:
		return "", []string{"shard", "ramp"}
	case sim.Brownout, sim.Fade:
		return "level", []string{"shard", "ramp"}
	case sim.Throttle:
		return "level", []string{"shard", "retry_after"}
	case sim.Errors:
		return "level", []string{"shard"}
	case sim.Surge, sim.Stall:
		return "level", nil
	case sim.SlowNetwork, sim.ClockStep:
		return "delay", nil
	case sim.Restart:
	}
	return "", nil
}

// read reads the mapping at path. fields are those of the whole file.
func (f *file) read(path string, body ast.Node, fields []field) error {
	what := path
	if path == "" {
		what = "the file"
	}
	return f.Each(body, what, func(key string, at *token.Token, value ast.Node) error {
		full := strings.TrimPrefix(path+"."+key, ".")
		var below []string
		for _, known := range fields {
			rest, ok := strings.CutPrefix(known.path, path)
			name, _, section := strings.Cut(strings.TrimPrefix(rest, "."), ".")
			switch {
			case !ok:
			case name == key && section:
				return f.read(full, value, fields)
			case name == key:
				return f.set(known, at, value)
			default:
				below = append(below, name)
			}
		}
		if full == "faults" {
			return f.faults(at, value)
		}
		if path == "" {
			below = append(below, "faults")
		}
		return f.Unknown(full, at, slices.Compact(below))
	})
}

// faults reads the list of faults.
func (f *file) faults(at *token.Token, value ast.Node) error {
	list, ok := value.(*ast.SequenceNode)
	if !ok {
		return f.Fail(at, "faults: must be a list of faults with kind, from and to")
	}
	f.note("faults", at, value)
	f.scenario.Faults = make([]sim.Fault, len(list.Values))
	for i, one := range list.Values {
		path := fmt.Sprintf("faults[%d]", i)
		f.note(path, one.GetToken(), one)
		if err := f.read(path, one, faultFields(path, &f.scenario.Faults[i])); err != nil {
			return err
		}
		kind := f.scenario.Faults[i].Kind
		needs, may := faultSettings(kind)
		for _, name := range []string{"kind", "from", "to", "shard", "level", "ramp", "retry_after", "delay"} {
			_, given := f.places[path+"."+name]
			needed := name == "kind" || name == "from" || name == "to" || name == needs
			switch {
			case needed && !given:
				return f.Fail(one.GetToken(), "%s has no %s", path, name)
			case given && !needed && !slices.Contains(may, name):
				return f.refuse(path+"."+name, "absent: it has no effect on a fault of kind "+kind.String())
			}
		}
	}
	return nil
}

// set sets a field to its value in the file.
func (f *file) set(known field, at *token.Token, value ast.Node) error {
	text := f.note(known.path, at, value)
	if known.set(text) {
		return nil
	}
	want := known.want
	if s := setting.Nearest(text, known.words); s != "" {
		want += "; did you mean " + s + "?"
	}
	return f.refuse(known.path, want)
}

// note records the place of a value, and returns its text; "" if it is not a scalar.
func (f *file) note(path string, at *token.Token, value ast.Node) string {
	text, _ := yamlfile.Plain(value, false)
	f.places[path] = place{f.Place(at), text, f.Excerpt(value.GetToken())}
	return text
}

// refuse returns the error about the value of that path in the file.
func (f *file) refuse(path, want string) error {
	p := f.places[path]
	return yamlfile.Below(setting.Bad(p.at+": "+path, p.text, want), p.excerpt)
}

// explain returns an error of Validate, which has a Go name, with the place of the value.
func (f *file) explain(err error) error {
	bad, ok := errors.AsType[*sim.Error](err)
	if !ok {
		return err
	}
	var path strings.Builder
	for i, r := range strings.TrimPrefix(bad.Field, "the number of ") {
		if unicode.IsUpper(r) && i > 0 && !strings.HasSuffix(path.String(), ".") {
			path.WriteByte('_')
		}
		path.WriteRune(unicode.ToLower(r))
	}
	want := bad.Want
	if most, ok := strings.CutPrefix(want, "0 to "); ok { // a field of the file knows whether 0 is allowed
		want = "at most " + most
	}
	if _, given := f.places[path.String()]; !given { // the file does not set the value
		return setting.Bad(path.String(), bad.Value, want)
	}
	return f.refuse(path.String(), want)
}

// duration returns a field of a duration of at least least.
func duration(path string, to *time.Duration, least time.Duration) field {
	span := setting.Span("", "", math.MinInt64, math.MaxInt64, setting.None, func(d *time.Duration) *time.Duration { return d })
	want := "seconds, or a duration such as 20ms"
	if least > 0 {
		want += ", above 0"
	}
	return field{path: path, want: want, set: func(text string) bool { return span.Set(to, text) == nil && *to >= least }}
}

// number returns a field of a number of at least least.
func number(path string, to *float64, least float64) field {
	want := "a number of at least 0"
	if least > 0 {
		want = "a number above 0"
	}
	return field{path: path, want: want, set: func(text string) bool {
		var err error
		*to, err = strconv.ParseFloat(text, 64)
		return err == nil && *to >= least
	}}
}

// whole returns a field of a whole number above 0.
func whole(path string, to *int) field {
	return field{path: path, want: "a whole number above 0", set: func(text string) bool {
		var err error
		*to, err = strconv.Atoi(text)
		return err == nil && *to > 0
	}}
}

func yes(path string, to *bool) field {
	return field{path: path, want: "true or false", set: func(text string) bool {
		var err error
		*to, err = strconv.ParseBool(text)
		return err == nil
	}}
}

func choice[T ~uint8](path string, to *T, words ...string) field {
	f := setting.Choice("", "", words, func(at *T) *T { return at })
	return field{path, f.Want, func(text string) bool { return f.Set(to, text) == nil }, words}
}

// special returns f with a word that stands for a value.
func special[T any](word string, means T, f field, to *T) field {
	plain := f.set
	f.want += ", or " + word
	f.set = func(text string) bool {
		if text == word {
			*to = means
			return true
		}
		return plain(text)
	}
	return f
}
