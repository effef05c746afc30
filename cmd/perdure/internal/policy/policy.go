// Package policy reads a retry policy and the configuration of its circuit breaker from a
// file, the environment and flags.
//
// The parameters, their parsing and their errors come from the tables of packages retry
// and circuit: a new row there is a new flag, variable, key in a file and line of help. A
// flag overrides the environment, which overrides the file, which overrides the preset.
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

// Settings are a preset with the parameters that the user has set.
type Settings struct {
	Policy  retry.Policy   // Name is "" if the user has set none
	Breaker circuit.Config // without Store and Log
	Store   string         // memory, host or a URL; "" if the user has set none
	Preset  string         // name of the preset

	source map[string]string // by parameter: the flag, variable or line that has set it
}

// Given returns the flag, variable or line of a file that has set a parameter, or "" if
// none has.
func (s *Settings) Given(name string) string { return s.source[name] }

// A Parameter is one setting of a policy, of a circuit breaker, or the store.
type Parameter struct {
	setting.Parameter
	Breaker bool // the parameter is one of circuit.Config
}

// Section returns the section of a file that has the parameter; "" is the top level.
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

// Flag returns the name of the parameter's flag, without leading hyphens.
func (p Parameter) Flag() string {
	return strings.ReplaceAll(strings.TrimSuffix(p.Name, "_seconds"), "_", "-")
}

// Variable returns the name of the parameter's environment variable.
func (p Parameter) Variable() string { return variable(p.Flag()) }

func variable(flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Parameters returns all parameters, in the order of help.
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

// Describe returns one line about the parameter, with its values if they are a few words.
func (p Parameter) Describe() string {
	if words := p.words(); len(words) > 0 {
		return p.Doc + ": " + strings.Join(words, ", ")
	}
	return p.Doc
}

// words returns all values of the parameter, if they are a few words.
func (p Parameter) words() []string {
	if words, ok := strings.CutPrefix(p.Want, "one of "); ok {
		return strings.Split(words, ", ")
	}
	return nil
}

// find returns the parameter of that name. _seconds at its end may be left out.
func find(name string) (Parameter, bool) {
	for _, p := range Parameters() {
		if p.Name == name || p.Name == name+"_seconds" {
			return p, true
		}
	}
	return Parameter{}, false
}

// An entry is one parameter as a flag, a variable or a line of a file sets it.
type entry struct {
	Parameter
	text    string
	source  string // the flag, the variable, or the line of the file
	excerpt string // the lines of the file; "" if the value is not from a file
}

// atSource returns err with the source of the value.
func (e entry) atSource(err error) error {
	if bad, ok := errors.AsType[*setting.Error](err); ok {
		err = &setting.Error{Field: e.source, Value: bad.Value, Want: bad.Want + e.exits(bad.Value)}
	}
	if e.excerpt != "" {
		return yamlfile.Below(err, e.excerpt)
	}
	return err
}

// exits returns a hint if value looks like an exit code, which no list of errors has.
func (e entry) exits(value string) string {
	flag := map[string]string{"retry_on": "--retry-on-exit", "ignore_on": "--stop-on-exit"}[e.Name]
	code, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 8)
	if flag == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("; the exit code %d is for perdure run %s", code, flag)
}

// A Source holds the parameters from the file, the environment and the flags. They are
// read once: the file may be a pipe, or may be replaced. The zero Source sets nothing.
type Source struct {
	entries []entry // a later entry overrides earlier ones
	reruns  int     // see Flags.Rerun
}

// Load reads the file, the environment and the flags. The warnings are about unknown
// variables. An error names the flag, variable or line, the value and what is allowed.
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
	return Source{slices.Concat(all, variables, f.entries(), f.overrides), f.rerun}, warnings, nil
}

// ReadFile returns the settings of the file at path, with the preset that it names or the
// default one. source names the flag with the path.
func ReadFile(path, source string) (*Settings, error) {
	entries, err := fromFile(path, source)
	if err != nil {
		return nil, err
	}
	return Source{entries: entries}.Settings("default")
}

// Settings returns the parameters of s over those of the preset.
func (s Source) Settings(preset string) (*Settings, error) {
	merged, err := merge(preset, s.entries)
	if err != nil {
		return nil, err
	}
	merged.rerun(s.reruns)
	merged.Policy.Timed = true // next to what the command does, the clock costs nothing
	return merged, nil
}

// Override sets a parameter to the JSON value that source has under that name. It
// overrides the flags.
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
	f.overrides = append(f.overrides, entry{Parameter: all[at], text: text, source: source + "." + name})
	return nil
}

// Rerun records that an orchestrator, which retries by itself, runs the command for the
// nth time after a failure.
func (f *Flags) Rerun(n int) { f.rerun = n }

// rerun reduces the attempts for a command that has failed that many times before, unless
// the user has set them.
func (s *Settings) rerun(times int) {
	fewer := s.Policy.ForRerun(times)
	if s.Given("max_attempts") == "" {
		s.Policy.MaxAttempts = fewer.MaxAttempts
	}
	if s.Given("max_elapsed") == "" {
		s.Policy.MaxElapsed = fewer.MaxElapsed
	}
}

// merge returns the preset with the entries applied in order.
func merge(preset string, entries []entry) (*Settings, error) {
	s := &Settings{source: map[string]string{}}
	start := entry{text: preset, source: "preset"}
	for _, e := range entries {
		if e.Name == "preset" {
			if _, err := retry.Preset(e.text); err != nil {
				return nil, e.atSource(err)
			}
			start = e
		}
	}
	var err error
	if s.Policy, err = retry.Preset(start.text); err != nil {
		return nil, start.atSource(err)
	}
	s.Preset = strings.ReplaceAll(strings.ToLower(start.text), "-", "_")
	s.Breaker = breaker(s.Preset)
	for _, e := range entries {
		if err := s.set(e); err != nil {
			return nil, e.atSource(err)
		}
		s.source[e.Name] = e.source
	}
	s.Policy.Name = redact.String(s.Policy.Name) // it becomes a key in the store
	return s, cmp.Or(s.fit(), s.validate())
}

// fit raises the preset's max_delay to a base_delay or throttle_delay that the user has
// set above it. If the user has set both, with max_delay the lower one, that is an error.
func (s *Settings) fit() error {
	for _, name := range []string{"base_delay", "throttle_delay"} {
		delay := s.Policy.BaseDelay
		if name == "throttle_delay" {
			delay = s.Policy.ThrottleDelay
		}
		switch most := s.Policy.MaxDelay; {
		case s.Given(name) == "" || delay <= most || most == 0:
		case s.Given("max_delay") != "":
			return s.AtSource(setting.Bad("max_delay", most, fmt.Sprintf("at least %s (%v)", name, delay)))
		default:
			s.Policy.MaxDelay = delay
		}
	}
	return nil
}

// breaker returns the circuit breaker of a preset.
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

// longestName is the maximum length of an operation's name, in bytes: the store truncates
// longer keys.
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

// stores returns the values of the parameter store.
func stores() []string {
	return []string{"memory", "host", "redis://HOST:PORT", "rediss://HOST:PORT", "unix:///SOCKET"}
}

// setStore sets the store. It does not open the store: only commands with a breaker do.
func (s *Settings) setStore(text string) error {
	scheme, _, remote := strings.Cut(text, "://")
	if text == "memory" || text == "host" || remote && slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		s.Store = text
		return nil
	}
	return setting.Unknown("store", text, stores())
}

// validate returns the error of a value that is invalid beside the others.
func (s *Settings) validate() error {
	err := s.Policy.Validate()
	if err == nil {
		err = s.Breaker.Validate()
	}
	return s.AtSource(err)
}

// AtSource returns err with the flag, variable or line that has set the invalid value, if
// err is about one.
func (s *Settings) AtSource(err error) error {
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
