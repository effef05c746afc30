package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/demo"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/help"
)

func (a *app) demoCommand() *cobra.Command {
	o := demo.Options{Seed: 1}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a 15-second demo against local faulty servers",
		Long: `Copy data from an HTTP API to files and to an S3 store, through failures, and compare every byte.

Both servers are real and run on 127.0.0.1 while the demo runs. Their faults are drawn from a seed;
another seed gives other faults. The demo reads neither the AWS environment nor PERDURE_ variables, and
writes only to a temporary directory.`,
		Args: help.Exactly(0, "none"),
		RunE: func(c *cobra.Command, _ []string) error {
			exit.IgnoreBrokenPipes()
			ctx, stop := exit.OnSignal(c.Context())
			defer stop()
			if a.json {
				o.Log = a.log
			} else {
				color := term.IsTerminal(int(a.stdout.Fd())) && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
				o.Screen = demo.NewScreen(a.stdout, color)
			}
			if strings.ContainsRune(os.Args[0], os.PathSeparator) {
				o.Self = os.Args[0] // it may not be in the PATH
			}
			return demo.Run(ctx, o)
		},
	}
	c.Flags().Uint64Var(&o.Seed, "seed", o.Seed, "`number` that seeds the faults")
	c.Flags().BoolVar(&o.Keep, "keep", false, "keep the servers running afterwards, until ctrl-C")
	return c
}
