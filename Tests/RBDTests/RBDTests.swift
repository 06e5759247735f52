// SPDX-License-Identifier: Apache-2.0

import Rados
import SystemPackage
import Testing

@testable import RBD

/// What needs no cluster: names and texts. The rest is `RBDLiveTests`.
@Suite struct ImageSpecTests {
    @Test(arguments: [
        ("rbd/lun0", ImageSpec(pool: "rbd", name: "lun0")),
        ("rbd/tenant/lun0", ImageSpec(pool: "rbd", namespace: "tenant", name: "lun0")),
        ("a.b/c-d_e", ImageSpec(pool: "a.b", name: "c-d_e")),
    ])
    func good(text: String, spec: ImageSpec) {
        #expect(ImageSpec(text) == spec)
        #expect(spec.description == text)
    }

    @Test(arguments: ["", "lun0", "/", "rbd/", "/lun0", "a//b", "a/b/c/d", "rbd/lun0@snap", "rbd/lun0/"])
    func bad(text: String) {
        #expect(ImageSpec(text) == nil)
    }
}

@Suite struct ImageFeaturesTests {
    @Test func names() {
        let features: ImageFeatures = [.layering, .exclusiveLock, .objectMap, .fastDiff, .deepFlatten]
        #expect(features.rawValue == 61)
        #expect(features.description == "layering, exclusive-lock, object-map, fast-diff, deep-flatten")
        #expect(ImageFeatures().names == [])
        #expect(ImageFeatures(rawValue: 1 << 40 | 1).names == ["layering", "bit 40"])
    }

    @Test func everyKnownBitHasAName() {
        for bit in 0..<12 {
            let names = ImageFeatures(rawValue: 1 << UInt64(bit)).names
            #expect(names.count == 1 && !names[0].hasPrefix("bit"), "bit \(bit)")
        }
    }

    @Test func whatKeepsOthersOut() {
        #expect(ImageFeatures([.layering, .striping, .deepFlatten, .dataPool]).preventingSharing.isEmpty)
        let all: ImageFeatures = [.layering, .exclusiveLock, .objectMap, .fastDiff, .journaling]
        #expect(all.namesToDisableForSharing == ["journaling", "fast-diff", "object-map", "exclusive-lock"])
        #expect(ImageFeatures([.exclusiveLock]).namesToDisableForSharing == ["exclusive-lock"])
    }
}

@Suite struct RBDErrorTests {
    @Test(arguments: [
        (Int32(-2), RBDError.Kind.imageNotFound), (-17, .alreadyExists), (-16, .inUse), (-39, .inUse),
        (-1, .notPermitted), (-13, .notPermitted), (-110, .timedOut), (-5, .other),
    ])
    func kinds(result: Int32, kind: RBDError.Kind) {
        let error = RBDError("rbd_open_read_only", "rbd/lun0", result)
        #expect(error.kind == kind)
        #expect(error.description.contains("rbd/lun0"))
        #expect(error.description.contains("(rbd_open_read_only, errno \(-result))"))
    }

    @Test func poolErrorsKeepTheirReason() {
        let missing = RadosError(
            .poolNotFound, operation: "rados_ioctx_create", object: "p", errno: .noSuchFileOrDirectory,
            remedy: "make it")
        let error = RBDError(missing, image: "p/lun0")
        #expect(error.kind == .poolNotFound)
        #expect(
            error.description == "there is no pool for image p/lun0 (rados_ioctx_create, errno 2); make it")
    }

    @Test func geometry() {
        let spec = ImageSpec(pool: "rbd", name: "x")
        let plain = ImageInfo(spec: spec, id: "1", size: 0, features: [])
        #expect(plain.objectSize == 4 << 20 && !plain.isStriped)
        #expect(ImageInfo(spec: spec, id: "1", size: 0, features: [], order: 25, stripeUnit: 1 << 16).isStriped)
        #expect(ImageInfo(spec: spec, id: "1", size: 0, features: [], stripeCount: 2).isStriped)
    }

    @Test func listsOfStrings() {
        #expect(strings([97, 0, 98, 99, 0, 0, 0], 3) == ["a", "bc", ""])
        #expect(strings([97, 0], 5) == ["a"])
        #expect(strings([97], 1) == [])
        #expect(strings([], 1) == [])
    }
}
