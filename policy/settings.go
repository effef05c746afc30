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
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy/yamlfile"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A Value is the text of one parameter, and where it was set.
type Value struct {
	Name   string // of the parameter, or circuit_breaker for the name of a shared breaker
	Text   string
	Source string // the flag, the variable, or the line of the file

	excerpt string  // the lines of the file; "" if the value is not from a file
	shared  []Value // values of the shared breaker that Text names
	own     bool    // the file has settings of a breaker here, maybe none
}

// Settings are the values of a preset, changed by Values.
type Settings struct {
	Policy  retry.Policy   // Breaker is nil; Name is "" if no Value sets it
	Breaker circuit.Config // without Store, Log and Observe
	Shared  string         // name of the shared breaker; "" means a breaker of its own
	Store   string         // memory, host or a URL; "" if no Value sets it
	Preset  string         // name of the preset

	values map[string]Value // by name
}

// Given returns the source of the value of a parameter, or "" if no Value sets it.
func (s *Settings) Given(name string) string { return s.values[name].Source }

// hasBreaker reports whether a Value or the preset sets anything of the circuit breaker.
func (s *Settings) hasBreaker() bool {
	for name := range s.values {
		if p, _ := Find(name); p.Breaker || name == breakerSection {
			return true
		}
	}
	return !isZero(breaker(s.Preset))
}

// An Effective is the value that a parameter has in Settings.
type Effective struct {
	Parameter

	Value  json.RawMessage
	Source string // the flag, variable or line that sets the value, or its preset
}

// Effective returns the parameters that are not at their default, in the order of Parameters.
func (s *Settings) Effective() ([]Effective, error) {
	values := map[string]json.RawMessage{"preset": quote(s.Preset)}
	if s.Store != "" {
		values["store"] = quote(redact.String(s.Store))
	}
	for _, part := range []any{s.Policy, s.Breaker} {
		text, err := json.Marshal(part)
		if err == nil {
			err = json.Unmarshal(text, &values)
		}
		if err != nil {
			return nil, err
		}
	}
	var all []Effective
	for _, p := range Parameters() {
		if value, ok := values[p.Name]; ok {
			all = append(all, Effective{p, value, cmp.Or(s.Given(p.Name), "preset "+s.Preset)})
		}
	}
	return all, nil
}

func quote(text string) json.RawMessage {
	quoted, _ := json.Marshal(text) //nolint:errchkjson // a string is always JSON
	return quoted
}

// isZero reports whether c has no settings.
func isZero(c circuit.Config) bool {
	text, err := json.Marshal(c)
	return err == nil && string(text) == "{}"
}

// AtSource returns err with the source of the invalid value, if err is about one that a
// Value sets.
func (s *Settings) AtSource(err error) error {
	bad, ok := errors.AsType[*setting.Error](err)
	if !ok {
		return err
	}
	return &setting.Error{Field: redact.String(cmp.Or(s.Given(bad.Field), bad.Field)), Value: bad.Value, Want: bad.Want}
}

// atSource returns err with the source of the value.
func (v Value) atSource(err error) error {
	if bad, ok := errors.AsType[*setting.Error](err); ok {
		err = &setting.Error{Field: redact.String(cmp.Or(v.Source, v.Name)), Value: bad.Value, Want: bad.Want + v.exits(bad.Value)}
	}
	if v.excerpt != "" {
		return yamlfile.Below(err, v.excerpt)
	}
	return err
}

// exits returns a hint if value looks like an exit code, which no list of errors has.
func (v Value) exits(value string) string {
	flag := map[string]string{"retry_on": "--retry-on-exit", "ignore_on": "--stop-on-exit"}[v.Name]
	code, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 8)
	if flag == "" || err != nil {
		return ""
	}
	return fmt.Sprintf("; the exit code %d is for perdure run %s", code, flag)
}

// Merge returns the preset with the values applied in order. If a value sets preset, its
// preset replaces the one of that name, and the other values apply to it. An error is a
// *perdure.ConfigError with the source of the value, or holds those of all values that are
// invalid.
func Merge(preset string, values ...Value) (*Settings, error) {
	s, err := apply(preset, values)
	if err != nil {
		return nil, err
	}
	s.Policy.Name = redact.String(s.Policy.Name) // it becomes a key in the store
	return s, yamlfile.Join(cmp.Or(s.fit(), s.AtSource(s.Policy.Validate())), s.AtSource(s.Breaker.Validate()))
}

// apply is Merge without the check whether the values fit each other.
func apply(preset string, values []Value) (*Settings, error) {
	s := &Settings{values: map[string]Value{}}
	start := Value{Text: preset, Source: "preset"}
	var all []error
	for _, v := range values {
		if v.Name != "preset" {
			continue
		}
		if _, err := retry.Preset(v.Text); err != nil {
			all = append(all, v.atSource(err))
		} else {
			start = v
		}
	}
	var err error
	if s.Policy, err = retry.Preset(start.Text); err != nil {
		return nil, start.atSource(err)
	}
	s.Preset = strings.ReplaceAll(strings.ToLower(start.Text), "-", "_")
	s.Breaker = breaker(s.Preset)
	for _, v := range values {
		if err := s.set(v); err != nil {
			all = append(all, v.atSource(err))
		}
		s.values[v.Name] = v
	}
	return s, yamlfile.Join(all...)
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

func (s *Settings) set(v Value) error {
	p, known := Find(v.Name)
	switch {
	case v.Name == "preset", v.own:
		return nil
	case v.Name == breakerSection:
		return s.share(v)
	case !known:
		return setting.Unknown("parameter", v.Name, parameterNames(func(Parameter) bool { return true }))
	case v.Name == "store":
		return s.setStore(v.Text)
	case v.Name == "name" && len(v.Text) > longestName:
		return setting.Bad("name", fmt.Sprintf("(%d bytes)", len(v.Text)), fmt.Sprintf("a text of at most %d bytes", longestName))
	case p.Breaker:
		return s.Breaker.Set(p.Name, v.Text)
	default:
		return s.Policy.Set(p.Name, v.Text)
	}
}

// share replaces the settings of the breaker by those of a shared one.
func (s *Settings) share(v Value) error {
	of, err := Merge("default", v.shared...)
	if err != nil {
		return err
	}
	for _, p := range Parameters() {
		if p.Breaker {
			delete(s.values, p.Name)
		}
	}
	for name, value := range of.values {
		if name != "preset" {
			s.values[name] = value
		}
	}
	s.Breaker, s.Shared = of.Breaker, v.Text
	return nil
}

// setStore sets the store. It does not open the store.
func (s *Settings) setStore(text string) error {
	scheme, _, remote := strings.Cut(text, "://")
	if text == "memory" || text == "host" || remote && slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		s.Store = text
		return nil
	}
	return setting.Unknown("store", text, stores())
}

// parameterNames returns the names of the parameters that are wanted.
func parameterNames(wanted func(Parameter) bool) []string {
	var names []string
	for _, p := range Parameters() {
		if wanted(p) {
			names = append(names, p.Name)
		}
	}
	return names
}
