package policy

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

// Of returns the settings of the policy of that name in a file.
func Of(file *policy.File, name string) (*Settings, error) {
	values, err := file.Values("--policy", name)
	if err != nil {
		return nil, err
	}
	return Source{values: values}.Settings(policy.Default)
}

// fromFile returns the values of the policy that the flags, an override or the environment
// chooses from the file, and its name. Without a choice, that is the policy default. The name
// of a preset that the file does not have is the preset.
func (f *Flags) fromFile(env set) ([]policy.Value, string, error) {
	file, err := f.read(env)
	if err != nil {
		return nil, "", err
	}
	choice := f.chosen(env)
	switch {
	case file == nil && choice.Text == "":
		return nil, "", nil
	case file == nil && slices.Contains(retry.PresetNames(), choice.Text):
		return []policy.Value{preset(choice)}, "", nil
	case file == nil:
		return nil, "", setting.Bad(choice.Source, choice.Text,
			"a preset ("+strings.Join(retry.PresetNames(), ", ")+"), or used with --config or with a file "+policy.DefaultPath())
	case !f.chooses:
		return file.Store(), "", nil
	case choice.Text == "" && f.preferred != "" && slices.Contains(file.Names(), f.preferred):
		choice.Text = f.preferred
	}
	if !slices.Contains(file.Names(), choice.Text) && slices.Contains(retry.PresetNames(), choice.Text) {
		return append(file.Store(), preset(choice)), "", nil
	}
	if choice.Text != "" {
		values, err := file.Values(choice.Source, choice.Text)
		return values, choice.Text, err
	}
	return f.byDefault(file, env)
}

// preset returns the preset that is chosen in place of a policy of the file.
func preset(choice policy.Value) policy.Value {
	return policy.Value{Name: "preset", Text: choice.Text, Source: choice.Source}
}

// chosen returns the name of the policy that an override, --policy or the environment
// chooses.
func (f *Flags) chosen(env set) policy.Value {
	switch {
	case f.choice.Text != "":
		return f.choice
	case f.policy != "":
		return policy.Value{Text: f.policy, Source: "--policy"}
	case f.chooses:
		return env.choice
	}
	return policy.Value{}
}

// byDefault returns the values of the policy default. A file that was named, and has other
// policies only, is an error.
func (f *Flags) byDefault(file *policy.File, env set) ([]policy.Value, string, error) {
	names, config := file.Names(), f.named(env)
	if slices.Contains(names, policy.Default) {
		values, err := file.Values("", policy.Default)
		return values, "", err
	}
	if config.Text != "" && len(names) > 0 {
		return nil, "", setting.Bad(config.Source, config.Text, "used with --policy: the file has no policy default, but "+strings.Join(names, ", "))
	}
	return file.Store(), "", nil
}

// named returns the path of the file that --config or PERDURE_CONFIG names.
func (f *Flags) named(env set) policy.Value {
	if f.config != "" {
		return policy.Value{Text: f.config, Source: "--config"}
	}
	return env.config
}

// Policies reads the file, or returns nil if no file exists.
func (f *Flags) Policies(environ []string) (*policy.File, error) {
	env, _, err := fromEnviron(environ)
	if err != nil {
		return nil, err
	}
	return f.read(env)
}

// Choose chooses the policy of that name, as --policy does.
func (f *Flags) Choose(name string) { f.policy = name }

// ChooseFrom chooses the policy of that name, which source names, over --policy and the environment; "" undoes that.
func (f *Flags) ChooseFrom(source, name string) { f.choice = policy.Value{Text: name, Source: source} }

// read reads the file of --config, of PERDURE_CONFIG, or at the default place, once: it may
// be a pipe. It returns nil if no file exists.
func (f *Flags) read(env set) (file *policy.File, err error) {
	if f.file != nil {
		return f.file, nil
	}
	if v := f.named(env); v.Text != "" {
		f.file, err = policy.Read(v.Text, v.Source)
		return f.file, err
	}
	path := policy.DefaultPath()
	if _, err := os.Stat(path); path == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil //nolint:nilnil // there is no file
	}
	f.file, err = policy.Read("", "the default file")
	return f.file, err
}
