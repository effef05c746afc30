// Package policy reads what a user says of a retry policy and of its circuit
// breaker, in a file, in the environment and in flags.
//
// The tables of packages retry and circuit say what there is to set. From them
// come the names in all three places, the parsing and the errors; a value
// means the same wherever it is written. A flag comes before the environment,
// that before the file, and the file before the preset.
package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/yamlfile"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Settings are what the user said, over what the preset says.
type Settings struct {
	Policy  retry.Policy   // Name is "" if the user gave none
	Breaker circuit.Config // without Store and Observe
	Store   string         // where the breaker's state lives: memory, host or a URL; "" if the user did not say
	Preset  string         // that the policy began as

	source map[string]string // by parameter: where it was set last
}

// Given returns where a parameter was set, or "" if it is the preset's.
func (s *Settings) Given(name string) string { return s.source[name] }

// A Parameter is one thing to set.
type Parameter struct {
	setting.Parameter
	Breaker bool // it is the circuit breaker's
}

// Section returns the part of a file that it is in; "" is the file itself.
func (p Parameter) Section() string {
	switch {
	case p.Name == "store":
		return ""
	case p.Breaker:
		return "circuit_breaker"
	default:
		return "policy"
	}
}

// Flag returns the name of its flag, without the hyphens.
func (p Parameter) Flag() string {
	return strings.ReplaceAll(strings.TrimSuffix(p.Name, "_seconds"), "_", "-")
}

// Variable returns the name of its environment variable.
func (p Parameter) Variable() string { return variable(p.Flag()) }

func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Parameters returns all there is to set, in the order of a table.
func Parameters() []Parameter {
	all := []Parameter{
		{Parameter: setting.Parameter{
			Name: "preset", Doc: "preset that the policy begins with",
			Want: "one of " + strings.Join(retry.PresetNames(), ", "),
		}},
	}
	for _, p := range retry.Parameters() {
		all = append(all, Parameter{Parameter: p})
	}
	for _, p := range circuit.Parameters() {
		all = append(all, Parameter{Parameter: p, Breaker: true})
	}
	return append(all, Parameter{Parameter: setting.Parameter{
		Name: "store", Doc: "where the circuit breaker's state lives (host)", Want: "one of " + strings.Join(stores(), ", "),
	}})
}

// Describe returns one line about the parameter, with its words if it takes
// one of a few.
func (p Parameter) Describe() string {
	if words := p.words(); len(words) > 0 {
		return p.Doc + ": " + strings.Join(words, ", ")
	}
	return p.Doc
}

// words returns the few that the parameter is one of, or none.
func (p Parameter) words() []string {
	if words, ok := strings.CutPrefix(p.Want, "one of "); ok {
		return strings.Split(words, ", ")
	}
	return nil
}

// find returns the parameter of that name, in a file or in the environment.
func find(name string) (Parameter, bool) {
	for _, p := range Parameters() {
		if p.Name == name || p.Name == name+"_seconds" {
			return p, true
		}
	}
	return Parameter{}, false
}

// An entry is one parameter as one place sets it.
type entry struct {
	Parameter
	text    string
	source  string // the flag, the variable, or the line of the file
	excerpt string // of the file
}

// refuse returns err with the place that the value is from.
func (e entry) refuse(err error) error {
	if bad, ok := errors.AsType[*setting.Error](err); ok {
		err = &setting.Error{Field: e.source, Value: bad.Value, Want: bad.Want + e.exits(bad.Value)}
	}
	if e.excerpt != "" {
		return yamlfile.Below(err, e.excerpt)
	}
	return err
}

// exits returns where an exit code belongs, if value is one in a list of errors.
func (e entry) exits(value string) string {
	flag := map[string]string{"retry_on": "--retry-on-exit", "ignore_on": "--stop-on-exit"}[e.Name]
	code, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 8)
	if flag == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("; the exit code %d is for perdure run %s", code, flag)
}

// A Source is what the file, the environment and the flags say, read once: the
// file may be a pipe, or be replaced meanwhile. The zero Source says nothing.
type Source struct {
	entries []entry // each over those before it
	reruns  int     // see Flags.Rerun
}

// Load reads the file, the environment and the flags. The warnings are about
// variables that are unknown. An error names the place, the value and what is
// allowed.
func (f *Flags) Load(environ []string) (s Source, warnings []string, err error) {
	variables, config, warnings, err := fromEnviron(environ)
	if err != nil {
		return s, warnings, err
	}
	if f.config != "" {
		config = entry{text: f.config, source: "--config"}
	}
	var all []entry
	if config.text != "" {
		if all, err = fromFile(config.text, config.source); err != nil {
			return s, warnings, err
		}
	}
	return Source{slices.Concat(all, variables, f.entries(), f.over), f.rerun}, warnings, nil
}

// ReadFile returns what the file at path says over the preset default, or the one that it
// names; source is what named the file.
func ReadFile(path, source string) (*Settings, error) {
	entries, err := fromFile(path, source)
	if err != nil {
		return nil, err
	}
	return Source{entries: entries}.Settings("default")
}

// Settings puts what s says over the preset of that name.
func (s Source) Settings(preset string) (*Settings, error) {
	merged, err := merge(preset, s.entries)
	if err != nil {
		return nil, err
	}
	merged.rerun(s.reruns)
	merged.Policy.Timed = true // next to what the command does, the clock costs nothing
	return merged, nil
}

// Override sets a parameter above the flags, to a JSON value that source has under
// that name.
func (f *Flags) Override(source, name string, value json.RawMessage) error {
	all := Parameters()
	at := slices.IndexFunc(all, func(p Parameter) bool { return p.Name == name })
	if at < 0 {
		names := make([]string, len(all))
		for i, p := range all {
			names[i] = p.Name
		}
		return setting.Unknown(source, name, names)
	}
	text, err := setting.Scalar(value, all[at].List)
	if err != nil {
		return setting.Bad(source+"."+name, json.Number(value), all[at].Want)
	}
	f.over = append(f.over, entry{Parameter: all[at], text: text, source: source + "." + name})
	return nil
}

// Rerun says that the command has failed n times before, and that who runs it
// retries by itself.
func (f *Flags) Rerun(n int) { f.rerun = n }

// rerun makes the policy that of a command which was run so many times before.
// What the user has set stays.
func (s *Settings) rerun(times int) {
	fewer := s.Policy.ForRerun(times)
	if s.Given("max_attempts") == "" {
		s.Policy.MaxAttempts = fewer.MaxAttempts
	}
	if s.Given("max_elapsed") == "" {
		s.Policy.MaxElapsed = fewer.MaxElapsed
	}
}

// merge sets the entries in turn, each over those before it.
func merge(preset string, entries []entry) (*Settings, error) {
	s := &Settings{source: map[string]string{}}
	start := entry{text: preset, source: "preset"}
	for _, e := range entries {
		if e.Name == "preset" {
			if _, err := retry.Preset(e.text); err != nil {
				return nil, e.refuse(err)
			}
			start = e
		}
	}
	var err error
	if s.Policy, err = retry.Preset(start.text); err != nil {
		return nil, start.refuse(err)
	}
	s.Preset = strings.ReplaceAll(strings.ToLower(start.text), "-", "_")
	s.Breaker = breaker(s.Preset)
	for _, e := range entries {
		if err := s.set(e); err != nil {
			return nil, e.refuse(err)
		}
		s.source[e.Name] = e.source
	}
	s.Policy.Name = redact.String(s.Policy.Name) // it is written down, as a key
	return s, cmp.Or(s.fit(), s.validate())
}

// fit makes the longest wait that of base_delay or throttle_delay, if the user has set one of these above the preset's.
// Of two that he has set the shorter one would count, and that is most likely a mistake.
func (s *Settings) fit() error {
	for _, name := range []string{"base_delay", "throttle_delay"} {
		delay := s.Policy.BaseDelay
		if name == "throttle_delay" {
			delay = s.Policy.ThrottleDelay
		}
		switch most := s.Policy.MaxDelay; {
		case s.Given(name) == "" || delay <= most || most == 0:
		case s.Given("max_delay") != "":
			return s.Refuse(setting.Bad("max_delay", most, fmt.Sprintf("at least %s (%v)", name, delay)))
		default:
			s.Policy.MaxDelay = delay
		}
	}
	return nil
}

// breaker returns the breaker that goes with a preset.
func breaker(preset string) circuit.Config {
	var c circuit.Config
	switch preset {
	case "service":
		c = circuit.Service()
	case "pipeline":
		c = circuit.Pipeline()
	}
	return c
}

// longestName is how many bytes the name of an operation may have: it is a key of the store, which cuts longer ones.
const longestName = 200

func (s *Settings) set(e entry) error {
	switch {
	case e.Name == "preset":
		return nil
	case e.Name == "store":
		return s.setStore(e.text)
	case e.Name == "name" && len(e.text) > longestName:
		return setting.Bad("name", fmt.Sprintf("(%d bytes)", len(e.text)), fmt.Sprintf("a text of at most %d bytes", longestName))
	case e.Breaker:
		return s.Breaker.Set(e.Name, e.text)
	default:
		return s.Policy.Set(e.Name, e.text)
	}
}

// stores are the words for where state lives, and how a URL for it looks.
func stores() []string {
	return []string{"memory", "host", "redis://HOST:PORT", "rediss://HOST:PORT", "unix:///SOCKET"}
}

// setStore knows what stores there are. Which one it is matters only where
// there is a breaker, so none is opened here.
func (s *Settings) setStore(text string) error {
	scheme, _, remote := strings.Cut(text, "://")
	if text == "memory" || text == "host" || remote && slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		s.Store = text
		return nil
	}
	return setting.Unknown("store", text, stores())
}

// validate checks how the values fit together.
func (s *Settings) validate() error {
	err := s.Policy.Validate()
	if err == nil {
		err = s.Breaker.Validate()
	}
	return s.Refuse(err)
}

// Refuse returns err with the place where the value was given that it is about, if
// it is about one.
func (s *Settings) Refuse(err error) error {
	bad, ok := errors.AsType[*setting.Error](err)
	if !ok {
		return err
	}
	field := s.Given(bad.Field)
	if p, ok := find(bad.Field); ok && field == "" {
		field = "--" + p.Flag()
	}
	return &setting.Error{Field: cmp.Or(field, bad.Field), Value: bad.Value, Want: bad.Want}
}
