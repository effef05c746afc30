package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/report"
	policyfile "github.com/seed-0f2c7998/perdure/policy"
)

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a policy file, and show the values of its policies",
		Long: `Check a policy file: FILE, or that of PERDURE_CONFIG, or ~/.config/perdure/policies.yaml. Show each policy
with the values that are not at their default, and the line or the preset that each comes from.

The exit code is 0 if programs and commands can use the file, and 64 if not. Then each error has a line, up to 20.`,
		Example: `  perdure check
  perdure check policies.yaml
  perdure check --json policies.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && args[0] == "" {
				return fmt.Errorf("invalid number of arguments %d: must be FILE", len(args))
			}
			return nil
		},
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := exit.OnSignal(c.Context())
			defer stop()
			return exit.Until(ctx, func() error { return a.check(args) }) // a file may be a pipe without a writer
		},
	}
}

func (a *app) check(args []string) error {
	file, err := a.policies(args)
	if err != nil {
		return exit.UsageError(err)
	}
	var out bytes.Buffer // a file that is invalid has no output
	for _, name := range file.Names() {
		s, err := policy.Of(file, name)
		if err != nil {
			return exit.UsageError(err)
		}
		write := writeChecked
		if a.json {
			write = writeCheckedJSON
		}
		if err := write(&out, name, s); err != nil {
			return err
		}
	}
	for _, u := range file.Upstreams() {
		if err := a.writeUpstream(&out, u); err != nil {
			return err
		}
	}
	_, err = a.stdout.Write(report.Escape(out.Bytes()))
	return err
}

// policies returns the policies of the file in args, or else of the one that commands use.
func (a *app) policies(args []string) (*policyfile.File, error) {
	if len(args) == 1 {
		return policyfile.Read(args[0], "FILE")
	}
	file, err := new(policy.Flags).Policies(a.environ)
	if err == nil && file == nil {
		err = errors.New("no policy file: name it as FILE or in PERDURE_CONFIG, or write " +
			cmp.Or(policyfile.DefaultPath(), "~/.config/perdure/policies.yaml"))
	}
	return file, err
}

// writeUpstream writes an upstream of perdure proxy as one line.
func (a *app) writeUpstream(w io.Writer, u policyfile.Upstream) error {
	key := cmp.Or(u.Listen, u.Prefix, "/")
	if a.json {
		return json.NewEncoder(w).Encode(struct {
			Key    string `json:"proxy"`
			URL    string `json:"to"`
			Policy string `json:"policy,omitempty"`
			Source string `json:"source"`
		}{key, u.URL, u.Policy, u.Source})
	}
	by := ""
	if u.Policy != "" {
		by = "policy " + u.Policy + "  "
	}
	_, err := fmt.Fprintf(w, "proxy %s  %s  %s%s\n", report.Line(key), report.Line(u.URL), report.Line(by), report.Line(u.Source))
	return err
}

// writeChecked writes a policy as lines of text.
func writeChecked(w io.Writer, name string, s *policy.Settings) error {
	all, err := s.Effective()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s:\n", name)
	if s.Shared != "" {
		fmt.Fprintf(w, "  %-25s %-14s %s\n", "circuit_breaker", s.Shared, report.Line(s.Given("circuit_breaker")))
	}
	for _, e := range all {
		fmt.Fprintf(w, "  %-25s %-14s %s\n", e.Name, report.Line(string(e.Value)), report.Line(e.Source))
	}
	return nil
}

// writeCheckedJSON writes a policy as one line of JSON.
func writeCheckedJSON(w io.Writer, name string, s *policy.Settings) error {
	type value struct {
		Value  json.RawMessage `json:"value"`
		Source string          `json:"source"`
	}
	all, err := s.Effective()
	if err != nil {
		return err
	}
	values := map[string]value{}
	for _, e := range all {
		values[e.Name] = value{e.Value, e.Source}
	}
	return json.NewEncoder(w).Encode(struct {
		Policy  string           `json:"policy"`
		Breaker string           `json:"shared_breaker,omitempty"`
		Values  map[string]value `json:"values"`
	}{name, s.Shared, values})
}
