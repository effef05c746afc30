package help

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Group adds commands to c and returns c. Without an argument c shows its help; with one
// that is no command of c, it returns an error.
func Group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.AddCommand(commands...)
	c.Args = cobra.ArbitraryArgs // RunE checks them
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknown(c, args[0])
		}
		return c.Help()
	}
	return c
}

// unknown returns the error about a word that is no command of c.
func unknown(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return exit.UsageError(setting.Bad("COMMAND", word, "absent: "+c.Name()+" has no commands"))
	}
	return exit.UsageError(setting.Unknown("COMMAND", word, names))
}

// Exactly returns an error unless there are n arguments. want describes them.
func Exactly(n int, want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case n:
			return nil
		case 1:
			return errors.New("invalid number of arguments 1: must be " + want)
		}
		return fmt.Errorf("invalid number of arguments %d: must be %s", len(args), want)
	}
}

// Complete makes the commands "help" and "completion" report unknown arguments. Cobra's
// own "help" shows the help of root for an unknown command.
func Complete(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "completion":
			Group(c)
		case "help":
			c.Run, c.RunE = nil, func(c *cobra.Command, args []string) error {
				about, rest, err := c.Root().Find(args)
				if err == nil && len(rest) > 0 {
					err = unknown(about, rest[0])
				}
				if err != nil {
					return err
				}
				return about.Help()
			}
		}
	}
}

// FlagError returns pflag's error in the form of package setting. For an unknown flag it
// suggests the nearest flag.
func FlagError(c *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return refused(invalid)
	}
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	if word := c.Flags().Arg(0); word != "" && c.HasSubCommands() {
		return unknown(c, word) // the flag may be one of that command
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if s := setting.Nearest(missing.GetSpecifiedName(), names); s != "" && len(missing.GetSpecifiedName()) > 1 {
		return fmt.Errorf("%w; did you mean --%s?", err, s)
	}
	return err
}

// Filled returns an error if a flag of c was set to the empty text, such as by a shell
// variable that is not set: the flag would have no effect.
func Filled(c *cobra.Command) error {
	var err error
	c.Flags().Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && err == nil {
			kind, _ := pflag.UnquoteUsage(f)
			err = setting.Bad("--"+f.Name, "", "a "+kind+", not empty")
		}
	})
	return err
}

// refused returns the error about an invalid value of a flag.
func refused(invalid *pflag.InvalidValueError) error {
	field := "--" + invalid.GetFlag().Name
	if bad, ok := errors.AsType[*setting.Error](invalid); ok {
		return &setting.Error{Field: field, Value: bad.Value, Want: bad.Want}
	}
	want := "true or false"
	if invalid.GetFlag().Value.Type() != "bool" {
		want = "a whole number of at least 0"
	}
	return setting.Bad(field, invalid.GetValue(), want)
}
