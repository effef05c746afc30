// Package simulate compares policies against a simulated failing backend, and advises what
// to change in them.
package simulate

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	policyfile "github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/sim"
)

// A Comparison is the outcomes of several policies in one scenario.
type Comparison struct {
	Scenario sim.Scenario // without a policy
	Seed     uint64
	None     sim.Result // without retries
	Outcomes []Outcome
}

// An Outcome is the result of one policy.
type Outcome struct {
	sim.Contender

	Result  sim.Result
	Verdict Verdict
	Changed *sim.Result // result with Verdict.Change; nil without a change
}

// DefaultNames are the policies that are compared by default.
const DefaultNames = "none,backoff,aws_standard,default,service"

// Help returns the names of scenarios and policies.
func Help() string {
	return "Scenarios: " + wrap(ScenarioNames()) + ",\nor a YAML file.\n\nPolicies: " + wrap(PolicyNames()) + ".\n" +
		"Those of --policy are compared with none."
}

// PolicyNames returns the names of presets, and of contenders for comparison only.
func PolicyNames() []string {
	names := retry.PresetNames()
	for _, c := range sim.Contenders() {
		if name := word(c.Name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// Policies returns the policies that --compare names, and those of --policy: policies of the
// policy file, or files. The policy file may be nil.
func Policies(names, chosen []string, file *policyfile.File) ([]sim.Contender, error) {
	if len(names) == 0 && len(chosen) > 0 {
		names = []string{"none"}
	} else if len(names) == 0 {
		names = strings.Split(DefaultNames, ",")
	}
	var all []sim.Contender
	for _, name := range names {
		c, err := named(name)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	for _, text := range chosen {
		more, err := contenders(text, file)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

// contenders returns the policy of that name, or the policies of the file at that path.
func contenders(text string, file *policyfile.File) ([]sim.Contender, error) {
	names, base := []string{text}, ""
	if file == nil || !slices.Contains(file.Names(), text) {
		if _, err := os.Stat(text); err != nil && file != nil && !strings.ContainsAny(text, `./\`) {
			return nil, setting.Unknown("--policy", text, append(file.Names(), "or a YAML file"))
		}
		var err error
		if file, err = policyfile.Read(text, "--policy"); err != nil {
			return nil, err
		}
		names, base = file.Names(), strings.TrimSuffix(filepath.Base(text), filepath.Ext(text))
	}
	var all []sim.Contender
	for _, name := range names {
		s, err := policy.Of(file, name)
		if err != nil {
			return nil, err
		}
		if name == policyfile.Default && len(names) == 1 && base != "" {
			name = base
		}
		all = append(all, contender(report.Line(cmp.Or(s.Policy.Name, name)), s))
	}
	return all, nil
}

// named returns the preset of that name with its circuit breaker, or the contender.
func named(name string) (sim.Contender, error) {
	if s, err := (policy.Source{}).Settings(strings.TrimSpace(name)); err == nil {
		return contender(s.Preset, s), nil
	}
	for _, c := range sim.Contenders() {
		if c.Name = word(c.Name); c.Name == word(name) {
			return c, nil
		}
	}
	return sim.Contender{}, setting.Unknown("--compare", name, PolicyNames())
}

func contender(name string, s *policy.Settings) sim.Contender {
	return sim.Contender{Name: name, Policy: s.Policy, Breaker: &s.Breaker}
}

// DropLimits removes the limits of calls, which are not simulated, from policies. It returns
// the names of policies that had limits.
func DropLimits(all []sim.Contender) (names []string) {
	for i := range all {
		if b := all[i].Breaker; b != nil && (b.Rate > 0 || b.Concurrency > 0) {
			b.Rate, b.Burst, b.Concurrency = 0, 0, 0
			names = append(names, all[i].Name)
		}
	}
	return names
}

// Run simulates the scenario with each policy, and with the change that its verdict advises.
// It calls progress with the name of the policy, and the part that is done, from 0 to 1.
func Run(ctx context.Context, s sim.Scenario, seed uint64, all []sim.Contender, progress func(name string, part float64)) (*Comparison, error) {
	c := &Comparison{Scenario: s, Seed: seed}
	played, plays := 0, 2*len(all)+1
	play := func(by sim.Contender) (sim.Result, error) {
		r, err := sim.Watch(ctx, by.In(s), seed, func(now time.Duration) {
			progress(by.Name, (float64(played)+min(float64(now)/float64(s.Duration), 1))/float64(plays))
		})
		played++
		r.Lost = Facts{Scenario: s}.lost(r) // also defined for a closed loop
		return r, err
	}
	var err error
	if c.None, err = play(sim.Contender{Name: "none", Policy: sim.NoRetries()}); err != nil {
		return nil, err
	}
	c.None.Steps = nil
	for _, by := range all {
		o := Outcome{Contender: by}
		if o.Result, err = play(by); err != nil {
			return nil, err
		}
		o.Verdict = Judge(Facts{s, by, o.Result, c.None})
		if o.Verdict.Change != nil {
			changed, err := play(o.Verdict.Change.apply(by))
			if err != nil {
				return nil, err
			}
			changed.Steps = nil // they are not drawn
			o.Changed = &changed
		}
		played = 2*len(c.Outcomes) + 3
		c.Outcomes = append(c.Outcomes, o)
	}
	return c, nil
}
