//go:build !linux

package hostplaces

import (
	"log/slog"

	"github.com/seed-0f2c7998/perdure/internal/places"
)

// Of returns nil: processes share no places here.
func Of(string, string, int, bool, *slog.Logger) places.Locks { return nil }

// Read returns no Usage.
func Read(string, []string) map[string]Usage { return nil }
