package perdure

import (
	"fmt"
	"strings"
)

// A ConfigError reports an invalid value in a configuration: a retry.Policy, a
// circuit.Config, or the options of an adapter. Use [errors.As] to find it in an error
// of these packages.
type ConfigError struct {
	Field string // name of the parameter or of the Go field, after "PLACE: " if the value is from a file
	Value string // the invalid value, without secrets
	Want  string // the allowed values, such as "a whole number from 1 to 256"
}

// Error returns one line: invalid value VALUE for FIELD: must be WANT.
func (e *ConfigError) Error() string {
	where, field, found := strings.Cut(e.Field, ": ")
	if !found {
		return fmt.Sprintf("invalid value %s for %s: must be %s", e.Value, e.Field, e.Want)
	}
	return fmt.Sprintf("%s: invalid value %s for %s: must be %s", where, e.Value, field, e.Want)
}

// A Parameter describes a setting that has a text form. retry.Parameters and
// circuit.Parameters return all of them: for flags, environment variables and help.
type Parameter struct {
	Name string // in JSON and YAML, such as max_attempts
	Doc  string // one line: meaning, unit and default
	Want string // the allowed values
	List bool   // the value is a list: in JSON and YAML a list, elsewhere separated by commas
}
