// Package policy reads a retry policy and the configuration of its circuit breaker from the
// policy file, the environment and flags.
//
// The parameters, their parsing and their errors come from the tables of packages retry
// and circuit: a new row there is a new flag, variable, key in a file and line of help. A
// flag overrides the environment, which overrides the file, which overrides the preset.
// The file is read by the public package policy.
package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy"
)

// Settings are a preset with the parameters that the user has set.
type Settings struct {
	*policy.Settings

	Chosen string // name of the policy of the file that was chosen; "" if none was
}

// A Parameter is one setting of a policy, of a circuit breaker, or the store.
type Parameter struct{ policy.Parameter }

// Flag returns the name of the parameter's flag, without leading hyphens.
func (p Parameter) Flag() string {
	return strings.ReplaceAll(strings.TrimSuffix(p.Name, "_seconds"), "_", "-")
}

// Variable returns the name of the parameter's environment variable.
func (p Parameter) Variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(p.Flag(), "-", "_"))
}

// Parameters returns all parameters, in the order of help.
func Parameters() []Parameter {
	var all []Parameter
	for _, p := range policy.Parameters() {
		all = append(all, Parameter{p})
	}
	return all
}

// find returns the parameter of that name. _seconds at its end may be left out.
func find(name string) (Parameter, bool) {
	p, ok := policy.Find(name)
	return Parameter{p}, ok
}

// A Source holds the parameters from the file, the environment and the flags. They are
// read once: the file may be a pipe, or may be replaced. The zero Source sets nothing.
type Source struct {
	values []policy.Value // a later value overrides earlier ones
	chosen string         // see Settings
	reruns int            // see Flags.Rerun
}

// Load reads the file, the environment and the flags. The warnings are about unknown
// variables. An error names the flag, variable or line, the value and what is allowed.
func (f *Flags) Load(environ []string) (s Source, warnings []string, err error) {
	env, warnings, err := fromEnviron(environ)
	if err != nil {
		return s, warnings, err
	}
	file, chosen, err := f.fromFile(env)
	if err != nil {
		return s, warnings, err
	}
	return Source{slices.Concat(file, env.values, f.given(), f.overrides), chosen, f.rerun}, warnings, nil
}

// Settings returns the parameters of s over those of the preset.
func (s Source) Settings(preset string) (*Settings, error) {
	merged, err := policy.Merge(preset, s.values...)
	if err != nil {
		return nil, named(err)
	}
	settings := &Settings{merged, s.chosen}
	settings.rerun(s.reruns)
	settings.Policy.Timed = true // next to what the command does, the clock costs nothing
	return settings, nil
}

// AtSource returns err with the flag, variable or line that has set the invalid value, if
// err is about one.
func (s *Settings) AtSource(err error) error { return named(s.Settings.AtSource(err)) }

// named returns err with the flag of a parameter in place of its name.
func named(err error) error {
	bad, ok := errors.AsType[*setting.Error](err)
	if !ok {
		return err
	}
	if p, ok := find(bad.Field); ok {
		return &setting.Error{Field: "--" + p.Flag(), Value: bad.Value, Want: bad.Want}
	}
	return err
}

// Override sets a parameter to the JSON value that source has under that name, or chooses a
// policy of the file if the name is policy. It overrides the flags.
func (f *Flags) Override(source, name string, value json.RawMessage) error {
	all := Parameters()
	at := slices.IndexFunc(all, func(p Parameter) bool { return p.Name == name })
	if at < 0 && name != "policy" {
		names := []string{"policy"}
		for _, p := range all {
			names = append(names, p.Name)
		}
		return setting.Unknown(source, name, names)
	}
	parameter := Parameter{policy.Parameter{Parameter: setting.Parameter{Want: "the name of a policy"}}}
	if at >= 0 {
		parameter = all[at]
	}
	text, err := setting.Scalar(value, parameter.List)
	if err != nil {
		return setting.Bad(source+"."+name, json.Number(value), parameter.Want)
	}
	v := policy.Value{Name: name, Text: text, Source: source + "." + name}
	if at < 0 {
		f.choice = v
		return nil
	}
	f.overrides = append(f.overrides, v)
	return nil
}

// Prefer chooses the policy of that name if the file has it, and neither a flag nor the
// environment chooses one.
func (f *Flags) Prefer(name string) { f.preferred = name }

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

// Key returns the name of the circuit breaker of the operation of that name: the shared one
// of the policy, if it has one.
func (s *Settings) Key(name string) string { return cmp.Or(s.Shared, name) }
