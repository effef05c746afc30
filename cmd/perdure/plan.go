package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/plan"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
)

// planFlags are the flags of plan besides those of every policy.
type planFlags struct {
	policy      *policy.Flags
	failureRate float64
	svg         string
}

func (a *app) planCommand() *cobra.Command {
	f := planFlags{failureRate: 0.3}
	c := &cobra.Command{
		Use:   "plan [flags]",
		Short: "Show what a policy will do",
		Long: `Show what a policy will do if attempt after attempt fails: when each of them begins, at the earliest,
likely and at the latest, the chance that it, or one before it, succeeds, and the load on the service.

It asks the same functions that decide in earnest. At the earliest and likely, attempts take no time;
at the latest, each takes its attempt_timeout.`,
		Example: `  perdure plan --preset s3_upload
  perdure plan --preset pipeline --attempt-timeout 60 --failure-rate 0.5
  perdure plan --config policy.yaml --svg policy.svg`,
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			return a.plan(&f)
		},
	}
	flags := c.Flags()
	flags.Var(policy.Ratio(&f.failureRate), "failure-rate", "`chance` that an attempt fails, above 0 and at most 1 (0.3)")
	flags.Lookup("failure-rate").DefValue = ""
	flags.StringVar(&f.svg, "svg", "", "write a picture to this `file`")
	f.policy = policy.Add(flags)
	return c
}

func (a *app) plan(f *planFlags) error {
	s, err := a.settings(f.policy)
	if err != nil {
		return err
	}
	if s.Policy.Name == "" {
		s.Policy.Name = s.Preset
	}
	p := plan.Make(s.Policy, s.Breaker.Budget, f.failureRate)
	if f.svg != "" {
		if err := writePicture(p, f.svg); err != nil {
			return err
		}
	}
	if a.json {
		return p.JSON(a.stdout, s.Breaker)
	}
	return p.Table(a.stdout)
}

func writePicture(p *plan.Plan, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(p.SVG(file), file.Close())
}
