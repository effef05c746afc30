package objects

import "github.com/seed-0f2c7998/perdure/awsretry/internal/source"

// SetStreamGrowth sets how the parts of streams grow.
func (s *Store) SetStreamGrowth(g source.Growth) { s.growth = g }

// SetCopyLimit sets the size above which objects are copied in parts.
func (s *Store) SetCopyLimit(n int64) { s.copyLimit = n }

// SetMaxPages sets the limit of pages of a listing.
func (s *Store) SetMaxPages(n int) { s.maxPages = n }
