package dagster

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// extra is the name of the extra that configures this command. Its field runRetry is
// not a parameter of a policy but the run's number among its retries: in each retry
// of the run the step's own number starts at 0 again.
const (
	extra    = "perdure"
	source   = "extras." + extra
	runRetry = "run_retry"
)

// ApplyExtras overrides the flags of the policy with the step's extras, reduces the
// attempts by how often the step was run before, and prefers the policy of the file that
// has the name of the step's only asset.
func (s *Session) ApplyExtras(f *policy.Flags) error {
	if s == nil {
		return nil
	}
	values := map[string]json.RawMessage{}
	if text, ok := s.pipes.Context.Extras[extra]; ok && json.Unmarshal(text, &values) != nil {
		return setting.Bad(source, json.Number(text), `an object, as {"max_attempts": 3}`)
	}
	before := s.pipes.Context.RetryNumber
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		switch {
		case string(value) == "null": // a tag that the run does not have
		case name == runRetry:
			n, err := times(value)
			if err != nil {
				return err
			}
			before += n
		default:
			if err := f.Override(source, name, value); err != nil {
				return err
			}
		}
	}
	f.Rerun(before)
	f.Prefer(s.asset)
	if before > 0 {
		_ = s.pipes.Log(slog.LevelInfo, fmt.Sprintf(
			"Re-run %d: max_attempts is divided by 2 for each re-run, unless it is set", before))
	}
	return nil
}

// times reads the number of a retry. A tag holds it as text.
func times(value json.RawMessage) (int, error) {
	text, err := setting.Scalar(value, false)
	n, failed := strconv.Atoi(text)
	if err != nil || failed != nil || n < 0 {
		return 0, setting.Bad(source+"."+runRetry, json.Number(value), "the number of a retry, from 0, or null")
	}
	return n, nil
}
