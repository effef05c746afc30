package policy

import (
	"slices"
	"strings"
	"sync"

	"github.com/seed-0f2c7998/perdure"
	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// The sections of a file with one policy.
const (
	policySection  = "policy"
	breakerSection = "circuit_breaker"
)

// A Parameter is one setting of a policy, of a circuit breaker, or the store.
type Parameter struct {
	perdure.Parameter
	Breaker bool // the parameter is one of circuit.Config
}

// Section returns the section of a file that has the parameter: policy or circuit_breaker;
// "" is the top level.
func (p Parameter) Section() string {
	switch {
	case p.Name == "store":
		return ""
	case p.Breaker:
		return breakerSection
	default:
		return policySection
	}
}

// Describe returns one line about the parameter, with its values if they are a few words.
func (p Parameter) Describe() string {
	if words := p.Words(); len(words) > 0 {
		return p.Doc + ": " + strings.Join(words, ", ")
	}
	return p.Doc
}

// Words returns all values of the parameter, if they are a few words.
func (p Parameter) Words() []string {
	if words, ok := strings.CutPrefix(p.Want, "one of "); ok {
		return strings.Split(words, ", ")
	}
	return nil
}

// Parameters returns all parameters of a file: preset, those of retry.Parameters and
// circuit.Parameters, and store.
func Parameters() []Parameter { return slices.Clone(parameters()) }

// parameters makes the texts once: each command has flags for the parameters.
var parameters = sync.OnceValue(func() []Parameter { //nolint:gochecknoglobals // constants
	all := []Parameter{
		{Parameter: perdure.Parameter{
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
	return append(all, Parameter{Parameter: perdure.Parameter{
		Name: "store", Doc: "where the circuit breaker's state lives (host)", Want: "one of " + strings.Join(stores(), ", "),
	}})
})

// stores returns the values of the parameter store.
func stores() []string {
	return []string{"memory", "host", "redis://HOST:PORT", "rediss://HOST:PORT", "unix:///SOCKET"}
}

// Find returns the parameter of that name. _seconds at its end may be left out.
func Find(name string) (Parameter, bool) {
	for _, p := range parameters() {
		if p.Name == name || p.Name == name+"_seconds" {
			return p, true
		}
	}
	return Parameter{}, false
}
