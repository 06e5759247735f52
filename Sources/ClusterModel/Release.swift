// SPDX-License-Identifier: Apache-2.0

/// What this is a release of.
public enum Release {
    /// Of the commands and the modules alike.
    public static let version = "0.1.0"
}
