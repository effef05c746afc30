package main

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/plan"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	policyfile "github.com/seed-0f2c7998/perdure/policy"
)

// planFlags are the flags of plan besides those of every policy.
type planFlags struct {
	policy   *policy.Flags
	facts    plan.Facts
	compare  []string
	policies []string
	svg      string
}

func (a *app) planCommand() *cobra.Command {
	f := planFlags{facts: plan.Facts{FailureRate: plan.DefaultFailureRate}}
	c := &cobra.Command{
		Use:   "plan [flags]",
		Short: "Show what a policy will do",
		Long: `Show what a policy does if every attempt fails with an error that is retried: when each attempt begins
(earliest, likely and latest), the chance of success until then, and the load on the service.

Earliest and likely assume that attempts take no time, latest that each takes its attempt_timeout. The
figures come from the functions that real calls use.

It warns of settings that contradict each other or do not suit the calls: see --calls-per-second,
--deadline and --retry-after.`,
		Example: `  perdure plan --preset s3_upload
  perdure plan --preset pipeline --attempt-timeout 60 --failure-rate 0.5
  perdure plan --preset service --calls-per-second 500 --deadline 3
  perdure plan --compare service,s3_upload --policy policy.yaml
  perdure plan --config policy.yaml --svg policy.svg`,
		Args:                  help.Exactly(0, "none"),
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.plan(c.Context(), &f)
		},
	}
	flags := c.Flags()
	flags.Var(policy.Ratio(&f.facts.FailureRate), "failure-rate", "`chance` that an attempt fails, above 0 and at most 1")
	flags.Var(policy.Number(&f.facts.CallsPerSecond, 1e7), "calls-per-second", "`number` of calls per second that share the circuit breaker (unknown)")
	flags.Var(policy.Wait(&f.facts.Deadline), "deadline", "`seconds` that a caller waits for an operation (unknown)")
	flags.Var(policy.Wait(&f.facts.RetryAfter), "retry-after", "`seconds` that the service sends in Retry-After (unknown)")
	flags.StringSliceVar(&f.compare, "compare", nil, "`names` of policies to compare, separated by commas")
	flags.StringArrayVar(&f.policies, "policy", nil, "`policy` to show, or several to compare: the name of one in the policy file, or a YAML file; repeatable")
	flags.StringVar(&f.svg, "svg", "", "write a picture to this `file`; - writes it to standard output, in place of the table")
	f.policy = policy.Add(flags)
	return c
}

// A result is one plan or several.
type result interface {
	Table(io.Writer) error
	SVG(io.Writer) error
	JSON(io.Writer) error
}

func (a *app) plan(ctx context.Context, f *planFlags) error {
	if f.svg == "-" && a.json {
		return setting.Bad("--svg", f.svg, "a file: standard output has the JSON")
	}
	p, err := a.plans(f)
	if err != nil {
		return err
	}
	switch f.svg {
	case "":
	case "-":
		return p.SVG(a.stdout)
	default:
		var picture bytes.Buffer
		if err := p.SVG(&picture); err != nil {
			return err
		}
		if err := endpoint.WriteFile(ctx, f.svg, picture.Bytes()); err != nil {
			return err
		}
	}
	if a.json {
		return p.JSON(report.ForJSON(a.stdout))
	}
	return p.Table(a.stdout)
}

// plans returns the plan of the policy that the policy flags describe, or the plans of the
// policies in --compare and --policy.
func (a *app) plans(f *planFlags) (result, error) {
	if len(f.compare)+len(f.policies) > 0 {
		var file *policyfile.File
		if len(f.policies) > 0 {
			var err error
			if file, err = f.policy.Policies(a.environ); err != nil {
				return nil, exit.UsageError(err)
			}
		}
		if len(f.compare) > 0 || len(f.policies) > 1 || file == nil || !slices.Contains(file.Names(), f.policies[0]) {
			return f.comparison(file)
		}
		f.policy.Choose(f.policies[0])
	}
	s, err := a.settings(f.policy)
	if err != nil {
		return nil, err
	}
	s.Policy.Name = report.Line(cmp.Or(s.Policy.Name, s.Chosen, s.Preset))
	return plan.Make(s.Policy, &s.Breaker, f.facts), nil
}

// comparison returns the plans of --compare and --policy.
func (f *planFlags) comparison(file *policyfile.File) (result, error) {
	if flag, text := f.policy.Given(); flag != "" && (flag != "--config" || len(f.policies) == 0) {
		return nil, exit.UsageError(setting.Bad(flag, text, "absent with --compare or --policy: write it in a file for --policy"))
	}
	all, err := simulate.Policies(f.compare, f.policies, file)
	if err != nil {
		return nil, exit.UsageError(err)
	}
	var plans plan.Comparison
	for _, c := range all {
		if c.Library != "" {
			return nil, exit.UsageError(setting.Bad("--compare", c.Name, "a policy of this library; perdure simulate compares others"))
		}
		c.Policy.Name = c.Name
		plans = append(plans, plan.Make(c.Policy, c.Breaker, f.facts))
	}
	return plans, nil
}
