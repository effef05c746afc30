package help

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Group gives c its commands. By itself it shows its help; a word that is none of
// them is refused.
func Group(c *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	c.AddCommand(commands...)
	c.Args = cobra.ArbitraryArgs // they are looked at below
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknown(c, args[0])
		}
		return c.Help()
	}
	return c
}

// unknown is the error of a word that is no command of c.
func unknown(c *cobra.Command, word string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
			names = append(names, sub.Name())
		}
	}
	return exit.UsageError(setting.Unknown("COMMAND", word, names))
}

// Exactly refuses any number of arguments but n, which are what is wanted.
func Exactly(n int, want string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case n:
			return nil
		case 1:
			return errors.New("1 argument, want " + want)
		}
		return fmt.Errorf("%d arguments, want %s", len(args), want)
	}
}

// Complete makes root's own commands as strict as the others: what cobra has for
// "help" shows the help of all instead of a command that there is not.
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

// FlagError makes of pflag's errors ours: without its own words around them, and
// with the nearest flag for one that does not exist.
func FlagError(c *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return refused(invalid)
	}
	missing, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return err
	}
	if word := c.Flags().Arg(0); word != "" && c.HasSubCommands() {
		return unknown(c, word) // whose flag it would be
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if s := setting.Nearest(missing.GetSpecifiedName(), names); s != "" && len(missing.GetSpecifiedName()) > 1 {
		return fmt.Errorf("%w; did you mean --%s?", err, s)
	}
	return err
}

// Filled refuses a flag that was given nothing, as one is by a variable that is
// not set: it would be as if it were not there.
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

// refused is the error of a value that a flag does not take.
func refused(invalid *pflag.InvalidValueError) error {
	field := "--" + invalid.GetFlag().Name
	if bad, ok := errors.AsType[*setting.Error](invalid); ok {
		return &setting.Error{Field: field, Value: bad.Value, Want: bad.Want}
	}
	want := "true or false"
	if invalid.GetFlag().Value.Type() != "bool" {
		want = "a whole number from 0 on"
	}
	return setting.Bad(field, invalid.GetValue(), want)
}
