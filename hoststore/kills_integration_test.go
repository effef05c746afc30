//go:build unix && integration

package hoststore_test

import (
	"os"
	"testing"
)

func TestManyKilledProcessesLeaveTheCellsWell(t *testing.T) {
	kills := 250
	if os.Getenv("PERDURE_TEST_LONG") != "" {
		kills = 2000
	}
	killAtWork(t, kills)
}
