"""A drop of many uploaded coupons: claimed in a storm, redeemed under races, every code accounted for."""
