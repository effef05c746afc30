package main

import (
	"bytes"
	"cmp"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/plan"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// planFlags are the flags of plan besides those of every policy.
type planFlags struct {
	policy *policy.Flags
	facts  plan.Facts
	svg    string
}

func (a *app) planCommand() *cobra.Command {
	var f planFlags
	c := &cobra.Command{
		Use:   "plan [flags]",
		Short: "Show what a policy will do",
		Long: `Show what a policy will do if attempt after attempt fails with an error that it retries: when each of
them begins, at the earliest, likely and at the latest, the chance that it, or one before it, succeeds,
and the load on the service.

It asks the same functions that decide in earnest. At the earliest and likely, attempts take no time;
at the latest, each takes its attempt_timeout.

It warns of settings that do not fit each other, or what calls meet: see --calls-per-second, --deadline
and --retry-after.`,
		Example: `  perdure plan --preset s3_upload
  perdure plan --preset pipeline --attempt-timeout 60 --failure-rate 0.5
  perdure plan --preset service --calls-per-second 500 --deadline 3
  perdure plan --config policy.yaml --svg policy.svg`,
		Args:                  help.Exactly(0, "none"),
		DisableFlagsInUseLine: true,
		RunE: func(*cobra.Command, []string) error {
			return a.plan(&f)
		},
	}
	flags := c.Flags()
	flags.Var(policy.Ratio(&f.facts.FailureRate), "failure-rate", "`chance` that an attempt fails, above 0 and at most 1 (0.3)")
	flags.Var(policy.Number(&f.facts.CallsPerSecond, 1e7), "calls-per-second", "`number` of calls a second that share the circuit breaker (not known)")
	flags.Var(policy.Wait(&f.facts.Deadline), "deadline", "`seconds` that callers wait for an operation (not known)")
	flags.Var(policy.Wait(&f.facts.RetryAfter), "retry-after", "`seconds` that the service asks to wait for, in Retry-After (not known)")
	flags.StringVar(&f.svg, "svg", "", "write a picture to this `file`; - is standard output, which has no table then")
	f.policy = policy.Add(flags)
	return c
}

func (a *app) plan(f *planFlags) error {
	s, err := a.settings(f.policy)
	if err != nil {
		return err
	}
	s.Policy.Name = report.Line(cmp.Or(s.Policy.Name, s.Preset))
	p := plan.Make(s.Policy, s.Breaker, f.facts)
	switch {
	case f.svg == "-" && a.json:
		return setting.Bad("--svg", f.svg, "a file, where standard output has JSON")
	case f.svg == "-":
		return p.SVG(a.stdout)
	case f.svg != "":
		if err := writePicture(p, f.svg); err != nil {
			return err
		}
	}
	if a.json {
		return p.JSON(report.ForJSON(a.stdout))
	}
	return p.Table(a.stdout)
}

// writePicture writes the file at path, or makes none.
func writePicture(p *plan.Plan, path string) error {
	var picture bytes.Buffer
	if err := p.SVG(&picture); err != nil {
		return err
	}
	_, before := os.Stat(path)
	err := os.WriteFile(path, picture.Bytes(), 0o666) //nolint:gosec // less the umask, as for any new file
	if err == nil {
		return nil
	}
	if errors.Is(before, fs.ErrNotExist) {
		_ = os.Remove(path)
	}
	return endpoint.ExplainWrite(path, err)
}
