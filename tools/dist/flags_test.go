package main

import "testing"

// The class has the flags of the help once each: those without a value are bools, and those that Python sets are left out.
func TestTypedFlags(t *testing.T) {
	const help = `Copy SRC to DST. Flags: --no-flag is none.

Usage:
  perdure copy [flags] SRC DST

Flags:
  -r, --recursive                 copy all files
      --header 'NAME: VALUE'      send a header field, as --data does
      --no-resume                 start from scratch
      --a-flag-whose-name-is-long number
                                  a number; see --parallel
      --sse-c-key file            file with the key

Other:
  -h, --help                      show this help
      --json                      write events as JSON

Flags not shown above:
  for fine tuning (perdure help policy describes them):
    --half-open-max, --probe-lease,
    --no-resume
`
	const want = `

class CopyFlags(TypedDict, total=False):
    """Flags of perdure copy."""

    header: Values
    no_resume: Union[bool, None]
    a_flag_whose_name_is_long: Values
    sse_c_key: Values
    half_open_max: Values
    probe_lease: Values
`
	if got := typedDict("copy", "recursive", help); got != want {
		t.Errorf("the class is\n%s\nwant\n%s", got, want)
	}
}
