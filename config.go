package perdure

import (
	"fmt"
	"strings"
)

// A ConfigError reports a value that a configuration may not have: of a
// retry.Policy, a circuit.Config, or the options of an adapter. Get it from any
// error of theirs with [errors.As].
type ConfigError struct {
	Field string // the parameter's name, or the Go field's; what stands before ": " in it is where that is
	Value string // as it was given, but without secrets
	Want  string // what is allowed
}

// Error returns the field, the value and what is allowed, in one line.
func (e *ConfigError) Error() string {
	where, field, found := strings.Cut(e.Field, ": ")
	if !found {
		return fmt.Sprintf("invalid value %s for %s: must be %s", e.Value, e.Field, e.Want)
	}
	return fmt.Sprintf("%s: invalid value %s for %s: must be %s", where, e.Value, field, e.Want)
}

// A Parameter is a setting that has a text form: for flags, environment
// variables and help that are made from the tables of retry.Parameters and
// circuit.Parameters.
type Parameter struct {
	Name string // in JSON, YAML and the environment, as max_attempts
	Doc  string // one line: meaning, unit and default
	Want string // what is allowed
	List bool   // it has several values: in JSON and YAML a list, elsewhere separated by commas
}
